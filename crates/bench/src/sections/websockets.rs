//! router-websockets: the cost of idle WebSockets for the proxy. Clients, proxy and backend are processes of their own, each with
//! its own limit of descriptors; the proxy needs two for each socket.

use super::{Saturation, progress};
use crate::messages;
use crate::peers::{Cupola, Scheme, haproxy_before};
use crate::process::{Memory, Process};
use crate::rig::{HOST, Rig, backend, own_program};
use crate::table::{Table, verdict};
use anyhow::Result;
use std::time::Duration;

const SOCKETS: usize = 9_000;
const SETTLE: Duration = Duration::from_secs(5);

struct Measured {
    name: &'static str,
    before: Memory,
    after: Memory,
}

impl Measured {
    fn anonymous(&self) -> f64 {
        (self.after.anonymous - self.before.anonymous) / SOCKETS as f64
    }

    fn pss(&self) -> f64 {
        (self.after.pss - self.before.pss) / SOCKETS as f64
    }
}

pub(super) fn run(rig: &Rig, _: &mut Saturation) -> Result<String> {
    let haproxy = {
        let (_backend, ports) = backend(&rig.folder, None)?;
        let proxy = haproxy_before(ports.websocket, rig)?;
        let process = proxy.process();
        process
            .map(|process| measure("HAProxy", process, proxy.port, rig))
            .transpose()?
    };
    let ours = {
        let (_backend, ports) = backend(&rig.folder, None)?;
        let router = Cupola::free().start(rig)?;
        router.register_and_wait(
            &messages::small("warm.apps.cupola.test", ports.plain),
            "warm.apps.cupola.test",
        )?;
        let message = messages::text(&messages::small(HOST, ports.websocket));
        let mut bus = router.nats.connect()?;
        bus.publish("router.register", &message)?;
        bus.flush()?;
        router.has_routes(2)?;
        measure(
            "cupola router",
            &router.process,
            router.port(Scheme::Http),
            rig,
        )?
    };
    let mut table = Table::new(&[
        "Peer",
        "RSS MB before",
        "with 9,000 sockets",
        "anonymous bytes per socket",
        "PSS bytes per socket",
    ]);
    let rows: Vec<&Measured> = haproxy.iter().chain([&ours]).collect();
    for row in &rows {
        table.row(&[
            row.name.to_owned(),
            format!("{:.1}", row.before.rss / 1e6),
            format!("{:.1}", row.after.rss / 1e6),
            format!("{:.0}", row.anonymous()),
            format!("{:.0}", row.pss()),
        ]);
    }
    let best = rows[0].anonymous();
    let number = format!(
        "{:.0} bytes per socket, HAProxy {best:.0}",
        ours.anonymous()
    );
    Ok(format!(
        "{table}\n\nAt most HAProxy's: {}",
        verdict(ours.anonymous() <= best, &number)
    ))
}

fn measure(name: &'static str, proxy: &Process, port: u16, rig: &Rig) -> Result<Measured> {
    let before = proxy.memory()?;
    let own = own_program()?;
    let (port, count) = (port.to_string(), SOCKETS.to_string());
    let command = [
        &*own,
        "idle-sockets",
        "--port",
        &port,
        "--host",
        HOST,
        "--count",
        &count,
    ];
    let (_clients, line) =
        Process::start_with_first_line("idle-sockets", None, &command, &rig.folder)?;
    std::thread::sleep(SETTLE);
    let after = proxy.memory()?;
    progress(&format!(
        "   {name}: {} sockets, {:.1} → {:.1} MB",
        line.trim(),
        before.rss / 1e6,
        after.rss / 1e6
    ));
    Ok(Measured {
        name,
        before,
        after,
    })
}
