//! Asks the UAA, the Cloud Controller and the BBS about one login.

use crate::login::Login;
use crate::target::{self, Target};
use clients::ssh_access::AccessError;
use wire::bbs::ActualLrpsRequest;

/// The components that decide.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) access: clients::ssh_access::Client,
    pub(crate) bbs: clients::bbs::Client,
}

/// The answer to a login.
#[derive(Debug)]
pub(crate) enum Verdict {
    Granted(Box<Target>),
    /// The user may not log in. The text is for the operator.
    Refused(String),
    /// The user may log in, and there is no sshd. The text is for the user.
    Nowhere(String),
    /// A component does not answer. The text is for the operator.
    Unknown(String),
}

impl Permission {
    pub(crate) async fn ask(&self, login: &Login, code: &str) -> Verdict {
        let lrp = async {
            let token = self.access.token(code).await?;
            self.access.lrp(&token, &login.process, login.index).await
        };
        let lrp = match lrp.await {
            Ok(lrp) => lrp,
            Err(refused @ AccessError::Refused { .. }) => {
                return Verdict::Refused(refused.to_string());
            }
            Err(other) => return Verdict::Unknown(other.to_string()),
        };
        let request = ActualLrpsRequest {
            process_guid: lrp.clone(),
            index: Some(i32::try_from(login.index).unwrap_or(i32::MAX)),
            ..ActualLrpsRequest::default()
        };
        let desired = match self.bbs.desired_lrp(&lrp).await {
            Ok(desired) => desired,
            Err(error) if error.is_not_found() => {
                return Verdict::Nowhere("the app is stopped".to_owned());
            }
            Err(error) => return Verdict::Unknown(error.to_string()),
        };
        match self.bbs.actual_lrps(&request).await {
            Ok(actual) => match target::find(&desired, &actual) {
                Ok(target) => Verdict::Granted(Box::new(target)),
                Err(reason) => Verdict::Nowhere(reason),
            },
            Err(error) => Verdict::Unknown(error.to_string()),
        }
    }
}
