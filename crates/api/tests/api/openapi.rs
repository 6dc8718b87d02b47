//! The description of the API is a file in the repository; it changes on purpose only.

use std::path::Path;

#[test]
fn the_description_is_the_one_in_the_repository() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let text = halligan_api::openapi_text();
    if std::env::var_os("HALLIGAN_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "the API has changed; if that is meant, run with HALLIGAN_BLESS=1");
}

#[test]
fn every_reference_in_it_leads_somewhere() {
    let text: serde_json::Value = serde_json::from_str(&halligan_api::openapi_text()).unwrap();
    let schemas = text["components"]["schemas"].as_object().unwrap();
    let mut open = vec![&text];
    let mut seen = 0;
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(serde_json::Value::as_str) {
                    let name = target.strip_prefix("#/components/schemas/").unwrap();
                    assert!(schemas.contains_key(name), "{target} leads nowhere");
                    seen += 1;
                }
                open.extend(fields.values());
            }
            serde_json::Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(seen > 100);
}
