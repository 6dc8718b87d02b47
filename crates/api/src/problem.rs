//! Problem documents (RFC 9457). What went wrong inside goes to the log; the person gets a sentence and a next step.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use halligan_client::types::Problem;
use halligan_control::ControlError;
use halligan_core::refusal::{Refusal, RefusalCode};

/// A problem on its way out.
#[derive(Debug)]
pub struct ApiError(Box<Problem>);

impl ApiError {
    /// A problem.
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("https://halligan.dev/problems/{}", code.replace('_', "-")),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            next: None,
        }))
    }
    /// With the next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.0.next = Some(next.into());
        self
    }
    /// Nobody has signed in.
    pub fn signed_out() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "signed_out", "Not signed in", "sign in first")
            .next("sign in with `halligan login`")
    }
    /// The caller may not do that.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_allowed", "Not allowed", detail)
    }
    /// There is no such thing, or not for this person.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Refusal::not_found(what).into()
    }
    /// It does not fit the state of things.
    pub fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "Not now", detail)
    }
    /// The body or query is not what the call takes.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed", "Not understood", detail)
    }
    /// The document.
    pub fn problem(self) -> Problem {
        *self.0
    }
    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
    /// The same problem with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status.as_u16();
        self
    }
    /// The core answers "does not exist, or is not yours" to whoever may not act. Somebody who is shown the thing all the
    /// same is told the second half only.
    #[must_use]
    pub fn shown(self, id: impl std::fmt::Display) -> Self {
        if self.0.code == "not_found" && self.0.detail.contains(&id.to_string()) {
            return Self::not_allowed("you may look at this, but that is not yours to do");
        }
        self
    }
    /// The same problem in the words of whoever asked: their name for a thing instead of its id.
    #[must_use]
    pub fn instead_of(mut self, id: impl std::fmt::Display, text: &str) -> Self {
        let shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
        self.0.detail = self.0.detail.replace(&id.to_string(), &shown);
        self
    }
    /// Its stable name.
    pub fn code(&self) -> &str {
        &self.0.code
    }
}

const fn words(code: RefusalCode) -> (StatusCode, &'static str, &'static str) {
    match code {
        RefusalCode::NotFound => (StatusCode::NOT_FOUND, "not_found", "Not found"),
        RefusalCode::NotAllowed => (StatusCode::FORBIDDEN, "not_allowed", "Not allowed"),
        RefusalCode::SeparationOfDuties => {
            (StatusCode::FORBIDDEN, "separation_of_duties", "Somebody else must do that")
        }
        RefusalCode::SecondFactor => (StatusCode::FORBIDDEN, "second_factor", "A second factor is needed"),
        RefusalCode::Incomplete => (StatusCode::UNPROCESSABLE_ENTITY, "incomplete", "Something is missing"),
        RefusalCode::DoesNotFit => (StatusCode::UNPROCESSABLE_ENTITY, "does_not_fit", "It does not fit"),
        RefusalCode::WrongState => (StatusCode::CONFLICT, "wrong_state", "Not in this state"),
        RefusalCode::Stale => (StatusCode::CONFLICT, "stale", "It has changed"),
        RefusalCode::Limit => (StatusCode::TOO_MANY_REQUESTS, "limit", "A limit is reached"),
        RefusalCode::Blocked => (StatusCode::CONFLICT, "blocked", "Something blocks it"),
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code, title) = words(refusal.code);
        let mut error = Self::new(status, code, title, refusal.say);
        error.0.next = refusal.next;
        error
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let inside = |status, say: &str| {
            tracing::error!(error = %chain(&error), "a call failed inside");
            Self::new(status, "unavailable", "Out of order", say)
        };
        match error {
            ControlError::Refused(refusal) => refusal.into(),
            ControlError::Busy => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy", error.to_string())
                    .next("try again")
            }
            ControlError::TooLarge => {
                Self::malformed("this is too large to be recorded").next("say it shorter")
            }
            ControlError::Store(_) | ControlError::Commit(_) => {
                inside(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer; nothing was done")
                    .next("try again, and tell the people who look after Halligan")
            }
            ControlError::Form { .. } | ControlError::Local { .. } => inside(
                StatusCode::INTERNAL_SERVER_ERROR,
                "something failed inside; the log of the server says what",
            )
            .next("tell the people who look after Halligan"),
        }
    }
}

/// An error with its causes, for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}
