//! The OpenAPI text. Documents of the core appear in it as objects, named by their type.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};

use halligan_client::types::Problem;

/// The text of `docs/openapi.json`.
pub fn openapi_text() -> String {
    let (_, api) = crate::routes::collect().split_for_parts();
    let mut text = finished(api).to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// What every call has: problems, and a token unless it says otherwise.
fn finished(mut api: OpenApi) -> OpenApi {
    api.info.title = "Halligan".to_owned();
    api.info.version = "v1".to_owned();
    api.info.description = Some(
        "Emergency access: requests, grants, sessions, incidents, reviews. Points in time are integers, microseconds \
         since 1970-01-01 UTC; lengths of time are text such as `90s` or `1h30m`. Errors are problem documents \
         (RFC 9457) with a stable `code` and the `next` step. Every POST and DELETE is answered with the last \
         checkpoint of the ledger in the header `Halligan-Checkpoint` (base64 of a signed note), and takes an \
         `Idempotency-Key`."
            .to_owned(),
    );
    api.info.license = None;
    api.info.contact = None;
    let components = api.components.get_or_insert_default();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.security_schemes.insert("token".to_owned(), scheme.into());
    let problem: RefOr<Schema> = Problem::schema();
    components.schemas.insert(Problem::name().into_owned(), problem);
    for item in api.paths.paths.values_mut() {
        let operations: [&mut Option<Operation>; 3] = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response = ResponseBuilder::new()
                .description("A problem: what happened, and what to do instead.")
                .content("application/problem+json", content)
                .build();
            operation.responses.responses.insert("default".to_owned(), response.into());
        }
    }
    api
}
