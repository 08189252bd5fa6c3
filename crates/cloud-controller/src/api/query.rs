//! Query parameters: strict names, comma lists, pages, order, common filters.

use super::endpoint::Accepts;
use super::lookup::Scope;
use crate::controller::Cc;
use crate::db::app;
use crate::db::sight::Seen;
use crate::db::{Condition, Connection, ListCondition, Order, Row, When};
use crate::error::{ApiError, ApiResult};
use axum::extract::FromRequestParts;
use http::Uri;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b',');

/// The parameters of one request, all of which the endpoint knows.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    path: String,
    params: Vec<(String, String)>,
    pub page: i64,
    pub per_page: i64,
}

/// The rows of a page.
#[derive(Debug)]
pub(crate) struct Rows<R> {
    pub rows: Vec<R>,
    pub page: Page,
}

/// The page of a list that a response contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub number: i64,
    /// The number of rows of a full page: as many as the request names, or fewer when those would be too large.
    pub size: i64,
    /// The number of rows on all pages.
    pub total: i64,
}

impl Page {
    /// Returns the page that begins where this one does and has at most `rows` rows. Its size is a divisor of this page's size,
    /// so that the following pages repeat no row and leave none out.
    fn smaller(self, rows: i64) -> Self {
        let size = (1..=self.size)
            .map(|parts| self.size / parts)
            .find(|size| *size <= rows.max(1) && self.size % size == 0)
            .unwrap_or(1);
        Self {
            number: (self.number - 1).saturating_mul(self.size / size) + 1,
            size,
            total: self.total,
        }
    }
}

impl<R: Row> Rows<R> {
    pub(crate) fn guids(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.guid().to_owned()).collect()
    }
}

impl Query {
    /// Reads a request's parameters. A parameter that the endpoint does not know is refused by name.
    pub(crate) fn read(uri: &Uri, accepts: &Accepts) -> ApiResult<Self> {
        let params = parse(uri.query().unwrap_or_default());
        let unknown: Vec<String> = params
            .iter()
            .filter(|(name, _)| !is_known(name, accepts))
            .map(|(name, _)| format!("'{name}'"))
            .collect();
        if !unknown.is_empty() {
            let valid: Vec<String> = accepts
                .parameters
                .iter()
                .map(|name| format!("'{name}'"))
                .collect();
            return Err(ApiError::bad_query(format!(
                "Unknown query parameter(s): {}. Valid parameters are: {}",
                unknown.join(", "),
                if valid.is_empty() {
                    "none".to_owned()
                } else {
                    valid.join(", ")
                }
            )));
        }
        for (at, (name, _)) in params.iter().enumerate() {
            if params[..at].iter().any(|(other, _)| other == name) {
                return Err(ApiError::bad_query(format!(
                    "'{name}' occurs more than once: join its values with commas"
                )));
            }
        }
        let mut query = Self {
            path: uri.path().to_owned(),
            params,
            page: 1,
            per_page: 50,
        };
        if accepts.is_list {
            query.page = query.number("page", 1, i64::MAX / 10_000, "Page")?;
            query.per_page = query.number("per_page", 50, 5000, "Per page")?;
        }
        Ok(query)
    }

    fn number(&self, name: &str, default: i64, max: i64, label: &str) -> ApiResult<i64> {
        let Some(text) = self.value(name) else {
            return Ok(default);
        };
        match text.parse::<i64>() {
            Ok(number) if (1..=max).contains(&number) => Ok(number),
            _ if name == "per_page" => Err(ApiError::bad_query(format!(
                "{label} must be between 1 and {max}"
            ))),
            _ => Err(ApiError::bad_query(format!(
                "{label} must be a positive integer"
            ))),
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns a comma list. An element may contain an encoded comma. An empty value is a list of one empty text.
    pub(crate) fn values(&self, name: &str) -> Option<Vec<String>> {
        let value = self.value(name)?;
        Some(
            value
                .split(',')
                .map(|element| percent_decode_str(element).decode_utf8_lossy().into_owned())
                .collect(),
        )
    }

    pub(crate) fn flag(&self, name: &str) -> ApiResult<Option<bool>> {
        match self.value(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(ApiError::bad_query(format!(
                "'{name}' must be true or false, not '{other}'"
            ))),
        }
    }

    /// Adds a filter on a column when the request has the parameter.
    pub(crate) fn filter<R: Seen>(&self, scope: Scope<R>, name: &str, column: &str) -> Scope<R> {
        match self.values(name) {
            Some(values) => scope.any(column, values),
            None => scope,
        }
    }

    /// Adds a filter on a condition when the request has the parameter.
    pub(crate) fn filter_by<R: Seen>(
        &self,
        scope: Scope<R>,
        name: &str,
        condition: ListCondition,
    ) -> Scope<R> {
        match self.values(name) {
            Some(values) => scope.list(condition, values),
            None => scope,
        }
    }

    /// Adds `space_guids` and `organization_guids` to a list of rows that belong to apps.
    pub(crate) fn of_places<R: Seen>(&self, scope: Scope<R>) -> Scope<R> {
        let scope = self.filter_by(scope, "space_guids", app::OF_SPACES);
        self.filter_by(scope, "organization_guids", app::OF_ORGANIZATIONS)
    }

    /// Returns the values of `include=a,b`, each of which must be one of `allowed`.
    pub(crate) fn include(&self, allowed: &[&str]) -> ApiResult<Vec<String>> {
        let wanted = self.values("include").unwrap_or_default();
        match wanted
            .iter()
            .find(|value| !allowed.contains(&value.as_str()))
        {
            None => Ok(wanted),
            Some(other) => {
                let valid: Vec<String> = allowed.iter().map(|name| format!("'{name}'")).collect();
                Err(ApiError::bad_query(format!(
                    "Invalid included resource: '{other}'. Valid included resources are: {}",
                    valid.join(", ")
                )))
            }
        }
    }

    /// Applies the common filters and the order, and then reads one page.
    pub(crate) async fn fetch<R: Seen>(
        &self,
        conn: &mut Connection,
        scope: Scope<R>,
    ) -> ApiResult<Rows<R>> {
        let scope = self.common(scope)?;
        let mut page = Page {
            total: scope.count(conn).await?,
            ..self.empty()
        };
        let offset = (page.number - 1).saturating_mul(page.size);
        let mut portion = scope.portion(conn, Some(page.size), offset).await?;
        if portion.is_cut {
            page = page.smaller(i64::try_from(portion.rows.len()).unwrap_or(i64::MAX));
            portion
                .rows
                .truncate(usize::try_from(page.size).unwrap_or(1));
        }
        let rows = portion.rows.into_iter().flatten().collect();
        Ok(Rows { rows, page })
    }

    /// Returns the page that the request names, of a list without rows.
    pub(crate) fn empty(&self) -> Page {
        Page {
            number: self.page,
            size: self.per_page,
            total: 0,
        }
    }

    fn common<R: Seen>(&self, scope: Scope<R>) -> ApiResult<Scope<R>> {
        let mut select = self.filter(scope, "guids", "guid");
        for (name, column) in [("created_ats", "created_at"), ("updated_ats", "updated_at")] {
            for (key, value) in self.params.iter().filter(|(key, _)| base(key) == name) {
                select = times(select, column, &key[name.len()..], value)?;
            }
        }
        if let Some(selector) = self.value("label_selector") {
            if !R::COLUMNS.contains(&"metadata") {
                return Err(ApiError::bad_query("label_selector is not supported here"));
            }
            select = super::label_selector::apply(select, selector)?;
        }
        match self.value("order_by") {
            None => Ok(select),
            Some(order) => Ok(select.ordered(&order_by::<R>(order)?)),
        }
    }

    /// Returns the URL of another page, with all other parameters unchanged.
    pub(crate) fn href(&self, api_url: &str, page: i64, per_page: i64) -> String {
        let mut pairs = vec![format!("page={page}"), format!("per_page={per_page}")];
        for (key, value) in self
            .params
            .iter()
            .filter(|(key, _)| key != "page" && key != "per_page")
        {
            pairs.push(format!(
                "{}={}",
                utf8_percent_encode(key, VALUE),
                utf8_percent_encode(value, VALUE)
            ));
        }
        format!("{api_url}{}?{}", self.path, pairs.join("&"))
    }
}

/// Returns whether an endpoint knows a parameter. The whole name must be equal; only times have operators.
fn is_known(name: &str, accepts: &Accepts) -> bool {
    accepts.parameters.contains(&name)
        || (name.ends_with(']')
            && matches!(base(name), "created_ats" | "updated_ats")
            && accepts.parameters.contains(&base(name)))
}

impl FromRequestParts<Cc> for Query {
    type Rejection = ApiError;

    /// Returns the query, which `api::endpoint` has read before.
    async fn from_request_parts(parts: &mut Parts, _: &Cc) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::from(anyhow::anyhow!("the endpoint is not registered")))
    }
}

/// Changes `created_ats[gt]` to `created_ats`.
fn base(name: &str) -> &str {
    name.split('[').next().unwrap_or(name)
}

fn parse(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn order_by<R: Row>(order: &str) -> ApiResult<Order> {
    let (column, descending) = match order.strip_prefix('-') {
        Some(column) => (column, true),
        None => (order.trim_start_matches('+'), false),
    };
    let allowed = ["created_at", "updated_at", "name", "position", "state"];
    let usable: Vec<&str> = allowed
        .into_iter()
        .filter(|name| R::COLUMNS.contains(name))
        .collect();
    if !usable.contains(&column) {
        let list: Vec<String> = usable.iter().map(|name| format!("'{name}'")).collect();
        return Err(ApiError::bad_query(format!(
            "Order by can only be: {}",
            list.join(", ")
        )));
    }
    Ok(Order::by(column, descending))
}

fn times<R: Seen>(
    select: Scope<R>,
    column: &str,
    operator: &str,
    value: &str,
) -> ApiResult<Scope<R>> {
    let parsed = value
        .split(',')
        .map(crate::clock::parse)
        .collect::<Option<Vec<i64>>>();
    let Some(times) = parsed else {
        return Err(ApiError::bad_query(format!(
            "{column}s has an invalid timestamp format. Timestamps should be formatted as 'YYYY-MM-DDThh:mm:ssZ'"
        )));
    };
    let when = match operator {
        "" => When::Among,
        "[gt]" => When::After,
        "[gte]" => When::NotBefore,
        "[lt]" => When::Before,
        "[lte]" => When::NotAfter,
        other => {
            return Err(ApiError::bad_query(format!(
                "Invalid relational operator: '{other}'"
            )));
        }
    };
    Ok(select.that(Condition::at(column, when, &times)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(uri: &str) -> ApiResult<Query> {
        let mut parameters = vec!["names", "hosts"];
        parameters.extend_from_slice(super::super::endpoint::COMMON);
        let accepts = Accepts {
            parameters,
            is_list: true,
            body: super::super::endpoint::Content::None,
            open: false,
            open_unless: None,
            scope: None,
        };
        Query::read(&uri.parse().unwrap(), &accepts)
    }

    #[test]
    fn commas_split_before_decoding() {
        let query = query("/v3/apps?names=a%252Cb,c&hosts=").unwrap();
        assert_eq!(query.values("names"), Some(vec!["a,b".into(), "c".into()]));
        assert_eq!(query.values("hosts"), Some(vec![String::new()]));
        assert_eq!(query.values("guids"), None);
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = query("/v3/apps?nmaes=x").unwrap_err();
        assert!(error.to_string().starts_with("The query parameter is invalid: Unknown query parameter(s): 'nmaes'. Valid parameters are: 'names'"));
        assert!(
            query("/v3/apps?per_page=5001")
                .unwrap_err()
                .to_string()
                .contains("between 1 and 5000")
        );
        assert!(query("/v3/apps?page=0").is_err());
        for refused in ["names[not]=x", "created_ats[=x", "names=a&names=b"] {
            assert!(query(&format!("/v3/apps?{refused}")).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_smaller_page_begins_where_the_larger_one_does() {
        let page = Page {
            number: 3,
            size: 5000,
            total: 20_000,
        };
        for rows in [0, 1, 3, 7, 99, 1249, 1250, 4999] {
            let smaller = page.smaller(rows);
            assert!(smaller.size <= rows.max(1), "{smaller:?}");
            assert_eq!((smaller.number - 1) * smaller.size, 10_000, "{smaller:?}");
        }
        assert_eq!(page.smaller(1300).size, 1250);
        assert_eq!(page.smaller(0).size, 1);
    }

    #[test]
    fn hrefs_keep_the_filters() {
        let query = query("/v3/apps?names=a%20b&page=2&per_page=5").unwrap();
        assert_eq!(
            query.href("http://api.x", 3, 5),
            "http://api.x/v3/apps?page=3&per_page=5&names=a%20b"
        );
    }
}
