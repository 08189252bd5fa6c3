//! The id of the request on whose behalf a task works, `X-Vcap-Request-Id`.
//!
//! A server reads it ([`of`]) and runs the request's handler in its [`scope`]. Every client of this crate sends the id of the
//! scope that it is called in, so that no signature in between has to carry it. A task that is spawned has no id: its caller
//! passes [`current`] on.

use http::HeaderMap;
use std::cell::RefCell;
use wire::REQUEST_ID;

/// The longest id in bytes, which has room for some ids with commas between them.
const LONGEST: usize = 512;

tokio::task_local! {
    static CURRENT: RefCell<String>;
}

/// Runs a future on behalf of the request with this id. An empty id means that no request is known.
pub fn scope<F: Future>(id: String, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(RefCell::new(id), future)
}

/// Returns the id of the request on whose behalf the caller works; empty if it works for none.
pub fn current() -> String {
    let id = CURRENT.try_with(|id| id.borrow().clone());
    id.unwrap_or_default()
}

/// Forgets the id in the current scope: what follows is not the request's doing any more.
pub fn forget() {
    let _ = CURRENT.try_with(|id| id.borrow_mut().clear());
}

/// Returns the id in the head of a request; empty if it has none, or one that is too long.
pub fn of(headers: &HeaderMap) -> String {
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    id.filter(|id| id.len() <= LONGEST)
        .unwrap_or_default()
        .to_owned()
}

/// Returns one id for work on behalf of several requests: all their ids, with commas between them, as far as there is room.
pub fn joined(ids: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut all: Vec<String> = Vec::new();
    let mut length = 0;
    for id in ids {
        for id in id.as_ref().split(',').map(str::trim) {
            let is_new = !id.is_empty() && !all.iter().any(|known| known == id);
            if is_new && length + id.len() < LONGEST {
                length += id.len() + 1;
                all.push(id.to_owned());
            }
        }
    }
    all.join(",")
}

/// Adds the current id to a request.
pub fn attach(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    let id = current();
    if id.is_empty() {
        request
    } else {
        request.header(REQUEST_ID, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scope_has_its_id_and_a_spawned_task_has_none() {
        assert_eq!(current(), "");
        let inner = scope("a".into(), async {
            let spawned = tokio::spawn(async { current() }).await.unwrap();
            let deeper = scope("b".into(), async { current() }).await;
            let before = current();
            forget();
            (spawned, deeper, before, current())
        });
        let seen = inner.await;
        let wanted = ["", "b", "a", ""].map(str::to_owned);
        assert_eq!([seen.0, seen.1, seen.2, seen.3], wanted);
        forget();
    }

    #[test]
    fn several_ids_become_one() {
        assert_eq!(joined([""; 0]), "");
        assert_eq!(joined(["a", "", "b", "a"]), "a,b");
        assert_eq!(joined(["a,b", "b, c"]), "a,b,c");
        let many: Vec<String> = (0..1000).map(|n| format!("request-{n}")).collect();
        let joined = joined(&many);
        assert!(joined.len() <= LONGEST && joined.starts_with("request-0,request-1,"));
    }

    #[test]
    fn an_id_is_read_from_a_head() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers), "");
        headers.insert(REQUEST_ID, "a-1".parse().unwrap());
        assert_eq!(of(&headers), "a-1");
        headers.insert(REQUEST_ID, "x".repeat(LONGEST + 1).parse().unwrap());
        assert_eq!(of(&headers), "");
    }

    #[tokio::test]
    async fn a_request_gets_the_id_of_its_scope() {
        kit::tls::install_crypto();
        let client = reqwest::Client::new();
        let head = || attach(client.get("http://bbs.test")).build().unwrap();
        assert!(!head().headers().contains_key(REQUEST_ID));
        let sent = scope("a".into(), async { head() }).await;
        assert_eq!(sent.headers()[REQUEST_ID], "a");
    }
}
