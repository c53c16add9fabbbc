//! Requests whose bearer only an identity provider can tell about.
//!
//! Invariant: the door's thread asks nobody, and the pool's workers don't wait for strangers: each such request gets a short-lived
//! thread, of which there are at most [`ASKING_MAX`]; one more is answered with 503. It takes a second request with the same bearer
//! no such way, since what was said is kept. What is decided about any other request is decided about these, too: role, rate.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::error::ApiError;
use crate::api::routes::Route;
use crate::api::{Api, Call, check_role};
use crate::auth::Login;
use crate::base::secret::Secret;
use crate::base::threads::STACK;
use crate::domain::Principal;

/// Requests that are asked about at a time.
const ASKING_MAX: usize = 32;

/// A request that waits for who it is.
pub struct Asking {
    pub(super) route: &'static Route,
    pub(super) params: Vec<String>,
    pub(super) bearer: Secret,
    pub(super) address: IpAddr,
}

impl Api {
    /// Finds out who comes with `bearer`, then handles `call`; returns at once.
    pub(super) fn ask_first(self: &Arc<Self>, call: Call, bearer: Secret) {
        let turn = Turn::of(self);
        if self.asking.load(Ordering::Acquire) > ASKING_MAX {
            return call.answer(Err(ApiError::new(503, "Too many logins at once; try again")));
        }
        let api = self.clone();
        let work = move || {
            let _turn = turn;
            match api.admit(&call, &bearer) {
                Ok(principal) => api.run(Call { principal: Some(principal), ..call }),
                Err(error) => call.answer(Err(error)),
            }
        };
        // Refused a thread, the call is dropped, and its responder answers 500.
        if let Err(e) = self.flow.threads.spawn_once("login", STACK * 2, work) {
            log::warn!("{e}");
        }
    }

    fn admit(&self, call: &Call, bearer: &Secret) -> Result<Arc<Principal>, ApiError> {
        match self.auth.ask(bearer.reveal(), call.address) {
            Login::Principal(principal) => {
                check_role(call.route, Some(&principal))?;
                self.limit_rate(Some(&principal), call.address)?;
                Ok(principal)
            }
            other => Err(self.refused(other, call.address, &call.request.head.path)),
        }
    }
}

/// One of those that are asked about.
struct Turn(Arc<Api>);

impl Turn {
    fn of(api: &Arc<Api>) -> Self {
        api.asking.fetch_add(1, Ordering::AcqRel);
        Turn(api.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::AcqRel);
    }
}
