//! Running a command for a caller: with the second factor that was shown for it, and its repetition key.

use axum::Json;
use axum::response::{IntoResponse, Response};
use halligan_control::people::sign_in::Caller;
use halligan_control::views::Viewer;
use halligan_control::{Outcome, Wish};
use halligan_core::command::{Actor, Command};
use serde::Serialize;

use crate::answer::MadeLeaf;
use crate::body::Wished;
use crate::problem::ApiError;
use crate::routes::Api;

/// An answer with the leaf that it rests on.
pub struct Done<T> {
    /// The body.
    pub body: T,
    /// Index of the first leaf; none if nothing was left to do.
    pub leaf: Option<u64>,
}

impl<T: Serialize> IntoResponse for Done<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Some(leaf) = self.leaf {
            response.extensions_mut().insert(MadeLeaf(leaf));
        }
        response
    }
}

impl Api {
    /// The caller's eyes, as things stand now.
    pub fn viewer(&self, caller: &Caller) -> Viewer {
        self.control.viewer(&caller.person)
    }

    /// The actor of a command: with the factor shown for it, if a code was given, else with the sign-in's own. The code is
    /// taken here; the repetition of the same call (`wish`) is answered as if it were shown again.
    pub async fn actor<T>(
        &self,
        caller: &Caller,
        wish: &Wished<T>,
        code: Option<&str>,
    ) -> Result<Actor, ApiError> {
        match code.map(str::trim).filter(|code| !code.is_empty()) {
            Some(code) => {
                let call = wish.call(&caller.person);
                let factor = self.control.step_up_in(caller, code, true, call.as_deref()).await?;
                Ok(caller.actor_with(Some(factor)))
            }
            None => Ok(caller.actor()),
        }
    }

    /// Runs a command.
    pub async fn run(
        &self,
        actor: Actor,
        command: Command,
        idempotency: Option<String>,
    ) -> Result<Outcome, ApiError> {
        let done = self.control.run_wish(&Wish { actor, command, idempotency }).await;
        self.control.count(if done.is_ok() { "commands" } else { "commands_refused" });
        Ok(done?)
    }
}
