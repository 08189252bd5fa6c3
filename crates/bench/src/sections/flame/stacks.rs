//! Folds and counts the stacks of `perf script`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The stacks, each from its leaf to its root, with the number of their samples.
#[derive(Default)]
pub(super) struct Profile(BTreeMap<Vec<Frame>, u64>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    symbol: String,
    kernel: bool,
}

/// The layers to which time is attributed: a sample belongs to the layer of its innermost frame that names one. Time in a frame
/// of no layer (memcpy, core, alloc) belongs to its caller.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "allocator",
        &["mi_", "_mi_", "malloc", "realloc", "calloc", "cfree"],
    ),
    (
        "TLS: cryptography",
        &["aws_lc", "aes_", "gcm_", "sha256_", "EVP_", "p256"],
    ),
    ("TLS: records", &["rustls"]),
    ("logging and metrics", &["access_log", "observe", "metrics"]),
    (
        "HTTP",
        &["httparse", "hyper", "http::", "h2::", "router::http"],
    ),
    ("table", &["route_table::", "registry"]),
    (
        "router",
        &["router::", "router[", "http_sides::", "http_sides["],
    ),
    ("run time", &["tokio", "mio::", "epoll"]),
    ("clock", &["clock_gettime", "vdso"]),
];

impl Profile {
    /// Reads the output. Samples are paragraphs; each line of one is `address symbol (object)`, leaf first.
    pub(super) fn read(script: &str) -> Self {
        let mut profile = Self::default();
        for sample in script.split("\n\n") {
            let stack: Vec<Frame> = sample.lines().filter_map(frame).collect();
            if !stack.is_empty() {
                *profile.0.entry(stack).or_default() += 1;
            }
        }
        profile
    }

    pub(super) fn samples(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the lines `root;…;leaf count`.
    pub(super) fn folded(&self) -> String {
        let mut text = String::new();
        for (stack, count) in &self.0 {
            let names: Vec<String> = stack
                .iter()
                .rev()
                .map(|frame| {
                    format!(
                        "{}{}",
                        frame.symbol.replace(';', ":"),
                        if frame.kernel { "_[k]" } else { "" }
                    )
                })
                .collect();
            let _ = writeln!(text, "{} {count}", names.join(";"));
        }
        text
    }

    pub(super) fn own_time(&self) -> Vec<(String, u64)> {
        self.count(|stack| {
            let leaf = &stack[0];
            format!(
                "{}{}",
                leaf.symbol,
                if leaf.kernel { " (kernel)" } else { "" }
            )
        })
    }

    pub(super) fn layers(&self) -> Vec<(String, u64)> {
        self.count(layer)
    }

    /// Counts the samples by the key of their stack, the largest count first.
    fn count(&self, key: impl Fn(&[Frame]) -> String) -> Vec<(String, u64)> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (stack, count) in &self.0 {
            *counts.entry(key(stack)).or_default() += count;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}

fn frame(line: &str) -> Option<Frame> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (symbol, object) = rest.rsplit_once(" (")?;
    let symbol = symbol.split("+0x").next().unwrap_or(symbol);
    Some(Frame {
        symbol: symbol.to_owned(),
        kernel: object.starts_with("[kernel") || object.starts_with("[guest.kernel"),
    })
}

fn layer(stack: &[Frame]) -> String {
    if stack[0].kernel {
        // This is the frame that the system call's entry calls: `__x64_sys_sendto`, `do_writev`, `ksys_write`.
        let entries = ["x64_sys_call", "do_syscall_64"];
        let entry = stack
            .iter()
            .position(|frame| entries.contains(&frame.symbol.as_str()));
        let call = entry.filter(|at| *at > 0).map(|at| {
            let name = &stack[at - 1].symbol;
            let prefixes = ["__x64_sys_", "ksys_", "do_"];
            prefixes
                .iter()
                .find_map(|p| name.strip_prefix(p))
                .unwrap_or(name)
        });
        return format!("kernel: {}", call.unwrap_or("interrupts and the rest"));
    }
    let named = stack
        .iter()
        .filter(|frame| !frame.kernel)
        .find_map(|frame| {
            let of = |patterns: &[&str]| patterns.iter().any(|p| frame.symbol.contains(p));
            LAYERS.iter().find(|(_, patterns)| of(patterns))
        });
    named.map_or("other", |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "
	ffffffff81 tcp_sendmsg ([kernel.kallsyms])
	ffffffff82 __x64_sys_sendto ([kernel.kallsyms])
	ffffffff83 do_syscall_64 ([kernel.kallsyms])
	    7f0001 send (/usr/lib/libc.so.6)
	    550001 tokio::net::tcp::stream::TcpStream::write (/bin/cupola)

	    550009 __memcpy_avx (/usr/lib/libc.so.6)
	    550002 rustls::record_layer::encrypt (/bin/cupola)
	    550003 router::forward (/bin/cupola)

";

    #[test]
    fn samples_are_folded_and_counted_by_layer() {
        let profile = Profile::read(SCRIPT);
        assert_eq!(profile.samples(), 2);
        let layers: Vec<_> = profile.layers().into_iter().map(|(name, _)| name).collect();
        assert_eq!(layers, ["TLS: records", "kernel: sendto"]);
        assert!(
            profile
                .folded()
                .contains("router::forward;rustls::record_layer::encrypt;__memcpy_avx 1")
        );
        assert_eq!(profile.own_time()[1].0, "tcp_sendmsg (kernel)");
    }
}
