//! Throw-away authorities, and their subjects as the router's rules name them.

use router::Subject;
pub(crate) use testkit::certs::Ca;

pub(crate) fn subject(ca: &Ca) -> Subject {
    Subject {
        common_name: ca.name().to_owned(),
        ..Subject::default()
    }
}
