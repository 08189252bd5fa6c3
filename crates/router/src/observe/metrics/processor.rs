//! The part of the machine that the process uses, as the kernel reports it.

use super::rates::TICK;

/// The process' share of one core.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    hundredths: u64,
    share: f64,
}

impl Processor {
    /// Updates the share. It must be called every [`TICK`].
    pub(crate) fn tick(&mut self) {
        let used = used_hundredths();
        let new = used.saturating_sub(self.hundredths);
        self.hundredths = used;
        self.share = new as f64 / 100.0 / TICK.as_secs_f64();
    }

    /// Returns the share of the last five seconds; 1: all of one core.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }
}

/// Returns the used processor time in hundredths of a second.
fn used_hundredths() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 12th and 13th after the name; the kernel counts them in hundredths.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let times = after.split(' ').skip(11).take(2);
    times.filter_map(|n| n.parse::<u64>().ok()).sum()
}

pub(crate) fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// Returns the number of open files; `None`: the kernel does not report it.
pub(crate) fn open_files() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The file that reads the folder does not count.
    Some(open.saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_reports_usage() {
        assert!(resident_kilobytes() > 0);
        assert!(open_files().unwrap() > 0);
        let started = std::time::Instant::now();
        while used_hundredths() == 0 {
            assert!(started.elapsed().as_secs() < 60, "no time was used");
        }
    }
}
