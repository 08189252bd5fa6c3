//! Converts the signals of SSH to those of Linux, and back.

use nix::sys::signal::Signal;
use russh::Sig;

/// Returns the signal that a client sends, if Linux has it.
pub(super) fn of_client(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::ABRT => Signal::SIGABRT,
        Sig::ALRM => Signal::SIGALRM,
        Sig::FPE => Signal::SIGFPE,
        Sig::HUP => Signal::SIGHUP,
        Sig::ILL => Signal::SIGILL,
        Sig::INT => Signal::SIGINT,
        Sig::KILL => Signal::SIGKILL,
        Sig::PIPE => Signal::SIGPIPE,
        Sig::QUIT => Signal::SIGQUIT,
        Sig::SEGV => Signal::SIGSEGV,
        Sig::TERM => Signal::SIGTERM,
        Sig::USR1 => Signal::SIGUSR1,
        Sig::Custom(name) => {
            let name = name.split('@').next().unwrap_or_default();
            format!("SIG{name}").parse().ok()?
        }
    })
}

/// Returns the signal that ended a process, as clients know it.
pub(super) fn of_process(number: i32) -> Sig {
    let Ok(signal) = Signal::try_from(number) else {
        return Sig::Custom(format!("{number}"));
    };
    match signal {
        Signal::SIGABRT => Sig::ABRT,
        Signal::SIGALRM => Sig::ALRM,
        Signal::SIGFPE => Sig::FPE,
        Signal::SIGHUP => Sig::HUP,
        Signal::SIGILL => Sig::ILL,
        Signal::SIGINT => Sig::INT,
        Signal::SIGKILL => Sig::KILL,
        Signal::SIGPIPE => Sig::PIPE,
        Signal::SIGQUIT => Sig::QUIT,
        Signal::SIGSEGV => Sig::SEGV,
        Signal::SIGTERM => Sig::TERM,
        Signal::SIGUSR1 => Sig::USR1,
        other => {
            let name = other.as_str();
            Sig::Custom(name.strip_prefix("SIG").unwrap_or(name).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_same_names_on_both_sides() {
        for (signal, number) in [
            (Sig::HUP, 1),
            (Sig::INT, 2),
            (Sig::KILL, 9),
            (Sig::TERM, 15),
            (Sig::Custom("USR2".into()), 12),
            (Sig::Custom("WINCH".into()), 28),
        ] {
            let of_client = of_client(&signal).unwrap();
            assert_eq!(of_client as i32, number);
            assert_eq!(format!("{:?}", of_process(number)), format!("{signal:?}"));
        }
        assert_eq!(of_client(&Sig::Custom("NONE".into())), None);
    }
}
