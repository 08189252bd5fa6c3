//! Creating and deleting stacks.

use crate::db::app::{self, App};
use crate::db::platform::{self, Stack};
use crate::db::{self, Connection, Select};
use crate::error::{ApiError, ApiResult};

pub(crate) async fn create(conn: &mut Connection, stack: &Stack) -> ApiResult<()> {
    if platform::stack_by_name(conn, &stack.name).await?.is_some() {
        return Err(ApiError::unprocessable("Name must be unique"));
    }
    db::insert(conn, stack).await?;
    Ok(())
}

pub(crate) async fn delete(conn: &mut Connection, stack: &Stack) -> ApiResult<()> {
    let is_used = Select::new()
        .and(&format!("{} = ?", app::STACK), [(&stack.name).into()])
        .exists::<App>(conn)
        .await?;
    if is_used {
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
