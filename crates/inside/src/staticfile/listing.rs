//! A page that lists a folder's files, for `directory: visible`.

use super::clock;
use super::site::{Site, encode};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Returns the page. `path` is the folder's encoded path in the site, with a slash at its end. Only files that would be served
/// are listed.
pub(super) fn html(site: &Site, directory: &Path, path: &str) -> std::io::Result<String> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let Some(real) = site.inside(&directory.join(&name)) else {
            continue;
        };
        let metadata = real.metadata()?;
        rows.push((!metadata.is_dir(), name, metadata));
    }
    rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let title = escape(path);
    let mut html = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Index of {title}</title></head>\n<body><h1>Index of {title}</h1><hr><table>\n"
    );
    if path != "/" {
        html.push_str("<tr><td><a href=\"../\">../</a></td></tr>\n");
    }
    for (is_file, name, metadata) in rows {
        let slash = if is_file { "" } else { "/" };
        let size = if is_file {
            metadata.len().to_string()
        } else {
            "-".to_owned()
        };
        let _ = writeln!(
            html,
            "<tr><td><a href=\".{}{slash}\">{}{slash}</a></td><td>{}</td><td>{size}</td></tr>",
            escape(&encode(&[OsString::from(&name)])),
            escape(&name.to_string_lossy()),
            clock::list_date(metadata.mtime()),
        );
    }
    html.push_str("</table></body></html>\n");
    Ok(html)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::super::site::tests::Folder;
    use super::*;

    #[test]
    fn only_what_is_served_is_listed_and_names_are_escaped() {
        let folder = Folder::new("listing");
        let site = folder.site(Settings::default());
        std::fs::write(site.root.join("<b>'&.html"), "x").unwrap();
        let html = html(&site, &site.root, "/").unwrap();
        assert!(
            html.contains("<a href=\"./%3Cb%3E&#39;&amp;.html\">&lt;b&gt;&#39;&amp;.html</a>"),
            "{html}"
        );
        assert!(html.contains("<a href=\"./sub%20dir/\">sub dir/</a>") && html.contains(">in</a>"));
        for hidden in [
            ".env",
            ".git",
            "Staticfile.auth",
            ">out<",
            ">env<",
            ">auth<",
            "../",
        ] {
            assert!(!html.contains(hidden), "{hidden} in {html}");
        }
    }
}
