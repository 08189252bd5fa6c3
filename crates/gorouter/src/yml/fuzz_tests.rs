//! A fuzz test of the reader, with the loop of [`testkit::fuzz`].

use super::*;
use testkit::fuzz::fuzz;

#[test]
fn configurations() {
    const WORDS: &[&str] = &[
        "nats:",
        "\n",
        "  ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "true",
        "0",
        "-1",
        "1e99",
        "30s",
        "99999999999999h",
        "port: ",
        "&a",
        "*a",
        "!!binary",
        "|",
        "tls_pem:",
        "enable_ssl: true",
        "\"",
        "#",
    ];
    fuzz("gorouter-yml", WORDS, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        match read(text) {
            Ok(read) => assert!(!read.settings.prune_interval.is_zero()),
            Err(problems) => {
                assert!(!problems.is_empty() && problems.iter().all(|p| !p.is_empty()))
            }
        }
    });
}
