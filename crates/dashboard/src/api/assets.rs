//! The files of the page. They are in the binary.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The content type of JavaScript and of style sheets.
const JS: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The files: name, content type, content.
pub(super) const FILES: &[(&str, &str, &str)] = &[
    ("app.css", CSS, include_str!("../../assets/app.css")),
    ("icon.svg", SVG, include_str!("../../assets/icon.svg")),
    ("main.js", JS, include_str!("../../assets/main.js")),
    ("api.js", JS, include_str!("../../assets/api.js")),
    ("changes.js", JS, include_str!("../../assets/changes.js")),
    ("commands.js", JS, include_str!("../../assets/commands.js")),
    ("dom.js", JS, include_str!("../../assets/dom.js")),
    ("format.js", JS, include_str!("../../assets/format.js")),
    ("history.js", JS, include_str!("../../assets/history.js")),
    ("learn.js", JS, include_str!("../../assets/learn.js")),
    ("map.js", JS, include_str!("../../assets/map.js")),
    ("route.js", JS, include_str!("../../assets/route.js")),
    ("search.js", JS, include_str!("../../assets/search.js")),
    ("stations.js", JS, include_str!("../../assets/stations.js")),
    ("table.js", JS, include_str!("../../assets/table.js")),
    ("tables.js", JS, include_str!("../../assets/tables.js")),
];

/// Returns a file. A browser that has it gets 304.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, content)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
    };
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let about = [
        (header::CONTENT_TYPE, (*kind).to_owned()),
        // A new version of the dashboard is used at once.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, about).into_response(),
        false => (about, *content).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_fetches_nothing_from_elsewhere() {
        let size: usize = FILES.iter().map(|(.., content)| content.len()).sum();
        assert!(size < 150_000, "{size} bytes");
        for (name, _, content) in FILES {
            let lines = content.lines().filter(|line| !line.contains("www.w3.org"));
            let far = lines.filter(|line| line.contains("http://") || line.contains("https://"));
            let far: Vec<&str> = far
                .filter(|line| line.contains("import") || line.contains("url("))
                .collect();
            assert!(far.is_empty(), "{name}: {far:?}");
        }
    }

    #[test]
    fn every_import_is_a_file() {
        for (name, kind, content) in FILES {
            if *kind != JS {
                continue;
            }
            for line in content.lines().filter(|line| line.starts_with("import ")) {
                let from = line.split('\'').nth(1).unwrap();
                let wanted = from.strip_prefix("./").unwrap();
                assert!(
                    FILES.iter().any(|(known, ..)| *known == wanted),
                    "{name}: {line}"
                );
            }
        }
    }
}
