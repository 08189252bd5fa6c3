//! Verbs of stacks: create and remove.

use crate::db::app;
use crate::db::stack::{self, Stack};
use crate::db::{self, Connection};
use crate::error::{ApiError, ApiResult};

pub(crate) async fn create(conn: &mut Connection, stack: &Stack) -> ApiResult<()> {
    if stack::by_name(conn, &stack.name).await?.is_some() {
        return Err(ApiError::unprocessable("Name must be unique"));
    }
    db::insert(conn, stack).await?;
    Ok(())
}

pub(crate) async fn delete(conn: &mut Connection, stack: &Stack) -> ApiResult<()> {
    if app::is_stack_used(conn, &stack.name).await? {
        return Err(ApiError::unprocessable(format!(
            "Cannot delete stack '{}' because apps are currently using the stack.",
            stack.name
        )));
    }
    if stack.is_default {
        return Err(ApiError::unprocessable(format!(
            "Cannot delete stack '{}' because it is the default stack.",
            stack.name
        )));
    }
    db::delete::<Stack>(conn, &stack.guid).await?;
    Ok(())
}
