//! Control's ledger: its checkpoint for everybody, its tiles for those who audit. The layout is C2SP tlog-tiles, so that
//! stock tools can read it.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use halligan_core::catalog::OfficeName;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use crate::caller::Reader;
use crate::problem::ApiError;

pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(checkpoint)).routes(routes!(tile))
}

/// The last checkpoint of control's ledger: a signed note. Public: whoever keeps one can prove the ledger later.
#[utoipa::path(get, path = "/checkpoint", tag = "ledger", responses((status = 200, content_type = "text/plain", body = String)))]
async fn checkpoint(State(api): State<Api>) -> Result<Response, ApiError> {
    let note = api.control.checkpoint().borrow().clone();
    note.map(text).ok_or_else(|| {
        ApiError::conflict("wrong_state", "nothing has been signed yet").next("try again in a second")
    })
}

fn text(note: String) -> Response {
    let mut response = note.into_response();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A file of the ledger by its tlog-tiles path, such as `tile/0/000` or `tile/entries/000.p/12`.
#[utoipa::path(get, path = "/ledger/{*path}", tag = "ledger", params(("path" = String, Path, description = "tlog-tiles path")), responses((status = 200, content_type = "application/octet-stream")))]
async fn tile(
    State(api): State<Api>,
    Reader(caller): Reader,
    Path(path): Path<String>,
) -> Result<Response, ApiError> {
    if !api.viewer(&caller).holds(&[OfficeName::Auditor, OfficeName::SecurityOfficer]) {
        return Err(ApiError::not_allowed(
            "to read the ledger takes the office of auditor or security-officer",
        ));
    }
    let missing = || ApiError::not_found("this file of the ledger");
    if !is_tile(&path) {
        return Err(missing());
    }
    let file = api.control.options().folder.join("tiles").join(&path);
    match tokio::fs::read(&file).await {
        Ok(bytes) => {
            let mut response = bytes.into_response();
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            Ok(response)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing()),
        Err(error) => {
            Err(halligan_control::ControlError::local(format!("read {}", file.display()))(error).into())
        }
    }
}

/// Is this a path of <https://c2sp.org/tlog-tiles>? Nothing else may reach the disk.
fn is_tile(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("tile/") else { return path == "checkpoint" };
    let (path, partial) = match rest.split_once(".p/") {
        Some((path, width)) => (path, Some(width)),
        None => (rest, None),
    };
    let three = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let width_fits = partial.is_none_or(|width| {
        width.parse::<u16>().is_ok_and(|n| (1..=255).contains(&n) && n.to_string() == width)
    });
    let mut parts = path.split('/');
    let level_fits = parts.next().is_some_and(|level| {
        level == "entries" || level.parse::<u8>().is_ok_and(|n| n < 64 && n.to_string() == level)
    });
    let numbers: Vec<&str> = parts.collect();
    let numbers_fit = numbers.split_last().is_some_and(|(last, before)| {
        three(last) && before.len() < 7 && before.iter().all(|part| part.strip_prefix('x').is_some_and(three))
    });
    width_fits && level_fits && numbers_fit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tiles_reach_the_disk() {
        for good in
            ["checkpoint", "tile/0/000", "tile/entries/000", "tile/1/x001/x234/067", "tile/0/000.p/17"]
        {
            assert!(is_tile(good), "{good}");
        }
        for bad in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/..",
            "tile/0/00",
            "tile/../ledger_key",
            "../ledger_key",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/../../x",
            "tile/00/000",
            "tile/0/x001",
            "/etc/passwd",
            "tile/0//000",
            "tile/entries/000/",
        ] {
            assert!(!is_tile(bad), "{bad}");
        }
    }
}
