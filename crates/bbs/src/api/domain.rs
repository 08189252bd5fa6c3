//! Domains. The owner of a domain keeps it fresh by confirming that it has desired everything it wants.

use super::{Api, Bbs, Trace, call, done};
use crate::failure::Failure;
use crate::state::now;
use wire::bbs::{self as m, path};

pub(super) fn routes() -> Api {
    Api::new()
        .route(path::DOMAINS_LIST, call(list))
        .route(path::DOMAINS_UPSERT, call(upsert))
}

async fn list(bbs: Bbs, _: Trace, _: m::EmptyRequest) -> Result<m::DomainsResponse, Failure> {
    let domains = bbs.store.read(|state| state.fresh_domains(now())).await?;
    Ok(m::DomainsResponse {
        error: None,
        domains,
    })
}

async fn upsert(
    bbs: Bbs,
    trace: Trace,
    request: m::UpsertDomainRequest,
) -> Result<m::LifecycleResponse, Failure> {
    done(
        bbs.store
            .write(&trace.0, |state, journal| {
                state.upsert_domain(journal, &request.domain, request.ttl)
            })
            .await,
    )
}
