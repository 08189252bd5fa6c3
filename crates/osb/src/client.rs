//! The client and its calls: each makes a request, sends it, and reads the answer.

use crate::answer::{
    self, Bound, FetchedBinding, FetchedInstance, LastOperation, Outcome, Progress,
};
use crate::error::Error;
use crate::request::{Bind, Deprovision, Ids, Poll, Provision, Request, Unbind, Update};
use crate::settings::{Broker, Caller, Settings};
use crate::transport::{Answer, Transport};
use kit::tls::Authorities;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A client of all brokers; it is cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Transport>);

/// The calls to one broker on behalf of one caller.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    client: &'a Client,
    broker: &'a Broker,
    caller: &'a Caller,
}

impl Client {
    /// Makes a client.
    ///
    /// # Errors
    /// It fails if the additional authorities cannot be read.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let tls = if settings.skip_ssl_validation {
            kit::tls::trusting_any_certificate()
        } else {
            let mut trusted = Authorities::none();
            trusted.add_system();
            if !settings.authorities_pem.trim().is_empty() {
                trusted.add_pem(&settings.authorities_pem)?;
            }
            kit::tls::trusting(trusted)
        };
        let tls = Arc::new(tls.with_no_client_auth());
        Ok(Self(Arc::new(Transport::new(settings, tls))))
    }

    /// Begins calls to a broker.
    pub fn at<'a>(&'a self, broker: &'a Broker, caller: &'a Caller) -> Calls<'a> {
        Calls {
            client: self,
            broker,
            caller,
        }
    }

    /// Returns the client of the UAA that is named when a service key is made.
    pub fn key_client(&self) -> Option<&str> {
        self.0.settings().key_client.as_deref()
    }

    /// Returns the longest time of a call.
    pub fn timeout(&self) -> Duration {
        self.0.settings().timeout
    }
}

/// Each call fails with an [`Error`], whatever the broker does.
impl Calls<'_> {
    async fn send(&self, request: &Request) -> Result<Answer, Error> {
        self.client.0.send(self.broker, self.caller, request).await
    }

    /// Fetches the catalog, which [`crate::Catalog::check`] reads.
    pub async fn catalog(&self) -> Result<Value, Error> {
        answer::catalog(&self.send(&Request::catalog()).await?)
    }

    /// Makes an instance.
    pub async fn provision(&self, wish: &Provision) -> Result<Outcome, Error> {
        answer::provision(&self.send(&wish.request()).await?)
    }

    /// Changes the plan, the parameters, the version or the name of an instance.
    pub async fn update(&self, wish: &Update) -> Result<Outcome, Error> {
        answer::update(&self.send(&wish.request()).await?)
    }

    /// Removes an instance. One that does not exist is removed.
    pub async fn deprovision(&self, wish: &Deprovision) -> Result<Outcome, Error> {
        answer::deprovision(&self.send(&wish.request()).await?)
    }

    /// Makes a binding.
    pub async fn bind(&self, wish: &Bind) -> Result<Bound, Error> {
        answer::bind(&self.send(&wish.request()).await?, &wish.requires)
    }

    /// Removes a binding. One that does not exist is removed.
    pub async fn unbind(&self, wish: &Unbind) -> Result<Progress, Error> {
        answer::unbind(&self.send(&wish.request()).await?)
    }

    /// Fetches how far an operation in the background has come.
    pub async fn last_operation(&self, poll: &Poll) -> Result<LastOperation, Error> {
        answer::last_operation(&self.send(&poll.request()).await?)
    }

    /// Fetches an instance with its parameters.
    pub async fn fetch_instance(
        &self,
        instance_guid: &str,
        ids: &Ids,
    ) -> Result<FetchedInstance, Error> {
        let request = Request::fetch_instance(instance_guid, ids);
        answer::fetch_instance(&self.send(&request).await?)
    }

    /// Fetches a binding with its credentials and parameters.
    pub async fn fetch_binding(
        &self,
        instance_guid: &str,
        binding_guid: &str,
        ids: &Ids,
    ) -> Result<FetchedBinding, Error> {
        let request = Request::fetch_binding(instance_guid, binding_guid, ids);
        answer::fetch_binding(&self.send(&request).await?)
    }
}
