//! Durations as Go writes them (`1m0s`, `200ms`): in flags of the health check and in texts that users know.

use std::time::Duration;

pub(crate) fn go(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let micros = nanos / 1_000;
        return if micros.is_multiple_of(1000) {
            format!("{}ms", micros / 1000)
        } else {
            format!("{}µs", micros.max(1))
        };
    }
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
    let rest = format!("{}.{:03}", seconds % 60, duration.subsec_millis());
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (200, "200ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (60_300, "1m0.3s"),
            (3_600_000, "1h0m0s"),
            (90_000, "1m30s"),
            (10_000, "10s"),
        ] {
            assert_eq!(go(Duration::from_millis(millis)), text);
        }
    }
}
