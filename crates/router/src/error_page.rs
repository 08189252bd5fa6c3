//! The operator's page for the router's own errors (`html_error_template_file`): a text with the fields that gorouter's templates
//! have. Fields and comments of Go's template language are supported, and nothing else.

use std::fmt::Write as _;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Status,
    StatusText,
    Message,
    /// The value of a header of the response.
    Header(String),
}

/// The values that a page can show.
#[derive(Debug)]
pub(crate) struct PageValues<'a> {
    pub(crate) status: u16,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    /// The headers of the response: name, value.
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

impl ErrorPage {
    /// Parses a template. The error names what is not understood, and what to do.
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, tail)) = rest.split_once("{{") {
            let (action, after) = tail
                .split_once("}}")
                .ok_or("has a {{ without its }}: close it")?;
            let (text, action) = match action.strip_prefix('-') {
                Some(action) => (text.trim_end(), action),
                None => (text, action),
            };
            let (action, after) = match action.strip_suffix('-') {
                Some(action) => (action, after.trim_start()),
                None => (action, after),
            };
            if !text.is_empty() {
                parts.push(Part::Text(text.into()));
            }
            parts.extend(part(action.trim())?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts))
    }

    pub(crate) fn render(&self, values: &PageValues<'_>) -> String {
        self.0.iter().fold(String::new(), |mut page, part| {
            match part {
                Part::Text(text) => page.push_str(text),
                Part::Status => {
                    let _ = write!(page, "{}", values.status);
                }
                Part::StatusText => escape(&mut page, values.reason),
                Part::Message => escape(&mut page, values.message),
                Part::Header(wanted) => {
                    let mut all = values.headers.iter();
                    if let Some((_, value)) =
                        all.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                    {
                        escape(&mut page, value);
                    }
                }
            }
            page
        })
    }
}

/// Parses an action; `None`: it is a comment.
fn part(action: &str) -> Result<Option<Part>, String> {
    if action.starts_with("/*") && action.ends_with("*/") {
        return Ok(None);
    }
    let header = action
        .strip_prefix(".Header.Get")
        .or_else(|| action.strip_prefix("index .Header"));
    let quoted = header.map(|name| name.trim().trim_matches(['"', '`']));
    Ok(Some(match (action, quoted) {
        (".Status", _) => Part::Status,
        (".StatusText", _) => Part::StatusText,
        (".Message", _) => Part::Message,
        (_, Some(name)) if !name.is_empty() && !name.contains(['"', ' ']) => {
            Part::Header(name.into())
        }
        _ => {
            return Err(format!(
                "has {{{{ {action} }}}}, which this router does not know: use .Status, .StatusText, .Message or .Header.Get \"Name\""
            ));
        }
    }))
}

/// Escapes a text for HTML text and quoted attributes.
fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '&' => page.push_str("&amp;"),
            '"' => page.push_str("&#34;"),
            '\'' => page.push_str("&#39;"),
            c => page.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled_in_and_escaped() {
        let page = ErrorPage::parse(
            "{{/* ours */}}<h1>{{.Status}} {{- /* no space */ -}} {{ .StatusText }}</h1>{{.Message}} ({{ .Header.Get \"X-Cf-RouterError\" }}){{ index .Header \"None\" }}",
        )
        .unwrap();
        let values = PageValues {
            status: 404,
            reason: "Not Found",
            message: "Requested route ('<b>') does not exist.",
            headers: &[("x-cf-routererror", "unknown_route")],
        };
        assert_eq!(
            page.render(&values),
            "<h1>404Not Found</h1>Requested route (&#39;&lt;b&gt;&#39;) does not exist. (unknown_route)"
        );
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (template, wanted) in [
            ("{{ if .Status }}x{{ end }}", "has {{ if .Status }}"),
            ("a {{ .Status", "has a {{ without its }}"),
        ] {
            let problem = ErrorPage::parse(template).unwrap_err();
            assert!(problem.starts_with(wanted), "{problem}");
        }
    }
}
