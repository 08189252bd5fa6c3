//! Credentials in URLs: passwords, secrets and tokens that a client put into a query. The log keeps only their names.

use std::borrow::Cow;

/// The names of query parameters, in lower case, whose values only the receiver may know.
const NAMES: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "assertion",
    "authorization",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "id_token",
    "oldpassword",
    "oldsecret",
    "passcode",
    "passwd",
    "password",
    "pwd",
    "refresh_token",
    "secret",
    "token",
];

/// Returns the URL with `-` in place of each credential in its query.
pub(super) fn hidden(url: &str) -> Cow<'_, str> {
    let Some((path, query)) = url.split_once('?') else {
        return url.into();
    };
    if !query.split(['&', ';']).any(is_credential) {
        return url.into();
    }
    let mut text = format!("{path}?");
    for piece in query.split_inclusive(['&', ';']) {
        let (pair, end) = match piece.strip_suffix(['&', ';']) {
            Some(pair) => (pair, &piece[pair.len()..]),
            None => (piece, ""),
        };
        match pair.split_once('=') {
            Some((name, _)) if is_credential(pair) => {
                text.push_str(name);
                text.push_str("=-");
            }
            _ => text.push_str(pair),
        }
        text.push_str(end);
    }
    text.into()
}

/// Returns the same for a header, which need not be text.
pub(super) fn hidden_bytes(url: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(url) {
        Ok(text) => match hidden(text) {
            Cow::Borrowed(_) => url.into(),
            Cow::Owned(text) => text.into_bytes().into(),
        },
        Err(_) => match url.iter().position(|byte| *byte == b'?') {
            Some(at) => url[..at].into(),
            None => url.into(),
        },
    }
}

/// Returns whether `name=value` is a credential, whatever its spelling.
fn is_credential(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    let name = decoded(name).to_lowercase();
    NAMES.contains(&name.trim())
}

/// Returns the name percent-decoded, with blanks for `+`.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains(['%', '+']) {
        return name.into();
    }
    let bytes = name.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| name.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(match (escaped, bytes[at]) {
            (Some(byte), _) => byte,
            (None, b'+') => b' ',
            (None, byte) => byte,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_lose_their_values_and_nothing_else_changes() {
        for (url, logged) in [
            (
                "/oauth/token?username=a&password=hush&x=1",
                "/oauth/token?username=a&password=-&x=1",
            ),
            ("/x?PassWord=hush", "/x?PassWord=-"),
            ("/x?p%61ssword=hush;a=b", "/x?p%61ssword=-;a=b"),
            ("/x?a=b&client_secret=h=u=s=h&&", "/x?a=b&client_secret=-&&"),
            ("/x?a?password=hush", "/x?a?password=hush"),
            ("/x?code=hush#password", "/x?code=-"),
            ("/password=1", "/password=1"),
            ("/x?passwords=1&mytoken=2", "/x?passwords=1&mytoken=2"),
            ("/x?token", "/x?token"),
            ("/x?", "/x?"),
        ] {
            assert_eq!(hidden(url), logged, "{url}");
            assert_eq!(&*hidden_bytes(url.as_bytes()), logged.as_bytes());
        }
        assert_eq!(
            &*hidden_bytes(b"http://h/\xff?password=hush"),
            b"http://h/\xff"
        );
    }
}
