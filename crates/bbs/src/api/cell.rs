//! The call that lists the present cells.

use super::{Api, Bbs, Trace, call};
use crate::failure::Failure;
use wire::bbs::{self as m, path};

pub(super) fn routes() -> Api {
    Api::new().route(path::CELLS_LIST, call(list))
}

async fn list(bbs: Bbs, _: Trace, _: m::EmptyRequest) -> Result<m::CellsResponse, Failure> {
    let cells = bbs
        .store
        .read(|state| state.cells.present().cloned().collect())
        .await?;
    Ok(m::CellsResponse { error: None, cells })
}
