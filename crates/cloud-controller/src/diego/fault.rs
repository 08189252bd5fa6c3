//! Decides what caused a step to fail. An error in one row must not end a pass over all rows. A BBS or a database that does not
//! answer ends it, because the next row would fail in the same way.

use crate::error::ApiError;
use clients::bbs::BbsError;
use wire::bbs::ErrorType;

/// Returns whether the row itself is wrong, so that another attempt fails in the same way until somebody changes the row.
pub(crate) fn is_row_wrong(error: &anyhow::Error) -> bool {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<BbsError>() {
            return error.kind().is_some_and(is_refusal);
        }
        if let Some(error) = cause.downcast_ref::<sqlx::Error>() {
            return is_undecodable(error);
        }
        if let Some(error) = cause.downcast_ref::<ApiError>() {
            return !error.status.is_server_error();
        }
    }
    true
}

/// Returns whether the BBS has checked the request and will never accept it.
fn is_refusal(kind: ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::InvalidRecord
            | ErrorType::InvalidRequest
            | ErrorType::InvalidProtobufMessage
            | ErrorType::InvalidJson
            | ErrorType::FailedToOpenEnvelope
            | ErrorType::ResourceConflict
    )
}

fn is_undecodable(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::Decode(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn a_refusal_is_the_rows_fault_and_silence_is_not() {
        let answer = |kind| -> anyhow::Error {
            BbsError::Answer {
                kind,
                message: "m".into(),
            }
            .into()
        };
        assert!(is_row_wrong(
            &Err::<(), _>(answer(ErrorType::InvalidRequest))
                .context("desire")
                .unwrap_err()
        ));
        assert!(is_row_wrong(&anyhow!(
            "the task's droplet does not exist any more"
        )));
        assert!(is_row_wrong(&sqlx::Error::Decode("flipped".into()).into()));
        assert!(!is_row_wrong(&answer(ErrorType::UnknownError)));
        assert!(!is_row_wrong(&answer(ErrorType::Deadlock)));
        assert!(!is_row_wrong(
            &BbsError::Unreachable {
                path: "/v1/ping",
                source: anyhow!("refused")
            }
            .into()
        ));
        assert!(!is_row_wrong(&sqlx::Error::PoolTimedOut.into()));
    }
}
