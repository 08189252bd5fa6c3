//! router-http2: the cost of a request of HTTP/2 for the proxy. The method is that of router-cpu, with h2load's requests by TLS,
//! and a plain backend with HTTP/1. There is no row "direct", because the backend does not support HTTP/2.

use super::{Saturation, cpu};
use crate::peers::Scheme;
use crate::rig::Rig;
use anyhow::Result;

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let peers = cpu::start_all(Scheme::Http2, rig)?;
    let measured = cpu::rounds(&peers, Scheme::Http2, rig)?;
    let (table, ratio) = cpu::table(&peers, &measured)?;
    Ok(format!(
        "### HTTP/2 by TLS → HTTP\n\n{table}\n\nNo target: {ratio}\n"
    ))
}
