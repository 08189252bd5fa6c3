//! Finds rows for a caller. A row is fetched only together with a check of the right that the caller needs.
//!
//! ```text
//!  guid in a path   find      hidden or unknown 404 ─▶ right 403 ─▶ suspended 403
//!                   known     unknown 404           (a hidden row, too: what the caller may do with it)
//!  guid in a body   named     hidden or unknown 422 ─▶ right 403 ─▶ suspended 403
//!                   existing  unknown 422           ─▶ right 403 ─▶ suspended 403   (a hidden row, too)
//!                   usable    hidden, unknown or no right 422   ─▶ suspended 403
//!                   target    422 for each of these: what something is shared with
//!  lists            visible   the rows that the caller sees, as a [`Scope`]; `Query::fetch` accepts nothing else
//!  marketplace      market    the rows that everybody sees, for callers without a token
//! ```
//!
//! Handlers have no other way to a row by its guid: a test keeps `by_guid` and `Select::new` out of `api/`.

use crate::auth::{Access, Principal, Right};
use crate::db::sight::{self, Above as _, OnMarket, Seen};
use crate::db::{self, Arg, Condition, Connection, ListCondition, Order, Portion, Select};
use crate::error::{ApiError, ApiResult};
use std::marker::PhantomData;

/// A row that the caller may use, what it belongs to, and the caller's rights there.
#[derive(Debug)]
pub(crate) struct Found<R: Seen> {
    pub row: R,
    pub of: R::Of,
    pub access: Access,
}

impl Principal {
    /// Returns a row that the path names.
    pub(crate) async fn find<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
        right: Right,
    ) -> ApiResult<Found<R>> {
        let found = self.find_visible(conn, guid).await?;
        granted(found, right, || ApiError::not_found(R::NOUN))
    }

    /// Returns a row that the path names, also a hidden one, for a question about the caller's own rights.
    pub(crate) async fn known<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
    ) -> ApiResult<Found<R>> {
        let found = self.load(conn, guid).await?;
        found.ok_or_else(|| ApiError::not_found(R::NOUN))
    }

    /// Returns a row that the body names. `unseen` is the text for a row that the caller does not see.
    pub(crate) async fn named<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
        right: Right,
        unseen: &str,
    ) -> ApiResult<Found<R>> {
        let found = self.find_visible(conn, guid).await?;
        granted(found, right, || ApiError::unprocessable(unseen))
    }

    /// Returns a row that the body names. A hidden row is refused with 403, because the right is checked and the sight is not.
    pub(crate) async fn existing<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
        right: Right,
        unknown: &str,
    ) -> ApiResult<Found<R>> {
        let found = self.load(conn, guid).await?;
        granted(found, right, || ApiError::unprocessable(unknown))
    }

    /// Returns a row that the body names. A caller without the right gets the same 422 as one who does not see the row.
    pub(crate) async fn usable<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
        right: Right,
        unusable: &str,
    ) -> ApiResult<Found<R>> {
        let found = self.find_visible(conn, guid).await?;
        let found = found.filter(|found: &Found<R>| found.access.must_hold(right).is_ok());
        granted(found, right, || ApiError::unprocessable(unusable))
    }

    /// Returns a row with which something is shared. A suspended one is refused with the same 422.
    pub(crate) async fn share_target<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
        right: Right,
        unusable: &str,
    ) -> ApiResult<Found<R>> {
        self.find_visible(conn, guid)
            .await?
            .filter(|found| found.access.may(right))
            .ok_or_else(|| ApiError::unprocessable(unusable))
    }

    async fn find_visible<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
    ) -> ApiResult<Option<Found<R>>> {
        let seen = sight::<R>(self, R::SEEN)
            .is("guid", guid)
            .first::<R>(conn)
            .await?;
        match seen {
            Some(row) => self.with_access(conn, row).await,
            None => Ok(None),
        }
    }

    async fn load<R: Seen>(
        &self,
        conn: &mut Connection,
        guid: &str,
    ) -> ApiResult<Option<Found<R>>> {
        match db::by_guid::<R>(conn, guid).await? {
            Some(row) => self.with_access(conn, row).await,
            None => Ok(None),
        }
    }

    async fn with_access<R: Seen>(
        &self,
        conn: &mut Connection,
        row: R,
    ) -> ApiResult<Option<Found<R>>> {
        let Some(of) = R::Of::load(conn, row.parent()).await? else {
            return Ok(None);
        };
        let access = self.access(conn, of.organization(), of.space()).await?;
        Ok(Some(Found { row, of, access }))
    }

    /// Returns the rows of a table that a list shows to the caller.
    pub(crate) fn visible<R: Seen>(&self) -> Scope<R> {
        Scope {
            select: sight::<R>(self, R::LISTED),
            most: self.page_bytes(),
            rows: PhantomData,
        }
    }
}

/// Returns the rows of the marketplace that a caller sees, or those that everybody sees. `most` is the maximum number of bytes of the
/// rows that are read at once.
pub(crate) fn market<R: OnMarket>(who: Option<&Principal>, most: u32) -> Scope<R> {
    match who {
        Some(who) => who.visible(),
        None => Scope {
            select: Select::new().that(Condition::everybodys::<R>()),
            most: most as usize,
            rows: PhantomData,
        },
    }
}

/// Returns the row, if there is one and the caller has the right to it.
fn granted<R: Seen>(
    found: Option<Found<R>>,
    right: Right,
    missing: impl FnOnce() -> ApiError,
) -> ApiResult<Found<R>> {
    let found = found.ok_or_else(missing)?;
    found.access.must(right)?;
    Ok(found)
}

fn sight<R: Seen>(who: &Principal, seen: &'static str) -> Select {
    if who.reads_all() || seen.is_empty() {
        return Select::new();
    }
    Select::new().that(sight::seen_by(seen, who.guid()))
}

/// The visible rows of one table. Every further condition only removes rows.
#[derive(Clone, Debug)]
pub(crate) struct Scope<R> {
    select: Select,
    /// The maximum number of bytes of the rows that are read at once.
    most: usize,
    rows: PhantomData<R>,
}

impl<R: Seen> Scope<R> {
    fn with(self, change: impl FnOnce(Select) -> Select) -> Self {
        Self {
            select: change(self.select),
            most: self.most,
            rows: PhantomData,
        }
    }

    pub(crate) fn that(self, condition: Condition) -> Self {
        self.with(|select| select.that(condition))
    }

    pub(crate) fn is(self, column: &str, value: impl Into<Arg>) -> Self {
        self.with(|select| select.is(column, value))
    }

    pub(crate) fn any<A: Into<Arg>>(
        self,
        column: &str,
        values: impl IntoIterator<Item = A>,
    ) -> Self {
        self.with(|select| select.any(column, values))
    }

    pub(crate) fn list<A: Into<Arg>>(
        self,
        condition: ListCondition,
        values: impl IntoIterator<Item = A>,
    ) -> Self {
        self.with(|select| select.list(condition, values))
    }

    pub(crate) fn ordered(self, order: &Order) -> Self {
        self.with(|select| select.ordered(order))
    }

    /// Returns all rows. A row that cannot be read is left out.
    pub(crate) async fn all(&self, conn: &mut Connection) -> ApiResult<Vec<R>> {
        let all = self.portion(conn, None, 0).await?;
        if all.is_cut {
            return Err(ApiError::unavailable(format!(
                "The rows of {} that belong to this answer have more than {} bytes; narrow the request with filters or a smaller per_page",
                R::TABLE,
                self.most
            )));
        }
        Ok(all.rows.into_iter().flatten().collect())
    }

    pub(crate) async fn first(&self, conn: &mut Connection) -> ApiResult<Option<R>> {
        Ok(self.select.first(conn).await?)
    }

    pub(crate) async fn count(&self, conn: &mut Connection) -> ApiResult<i64> {
        Ok(self.select.count::<R>(conn).await?)
    }

    pub(crate) async fn portion(
        &self,
        conn: &mut Connection,
        limit: Option<i64>,
        offset: i64,
    ) -> ApiResult<Portion<R>> {
        let portion = self.select.portion(conn, limit, offset, self.most);
        Ok(portion.await?)
    }
}
