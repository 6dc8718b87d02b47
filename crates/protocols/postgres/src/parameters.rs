//! Bound parameters as JSON, from text and binary formats, so that a record says what was asked.
//!
//! Never fails: what is not known, or not formed as its type has it, is shown as hex. A JSON document and a
//! `numeric` stay text, since a JSON number would change them. Long values are cut and carry their digest.

mod binary;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::codec::Bind;

/// Longest value that is shown whole, in bytes; and all of a statement's together.
const MAX_VALUE_BYTES: usize = 16 * 1024;
const MAX_ALL_BYTES: usize = 256 * 1024;
/// Longest binary value that is shown whole.
const MAX_HEX_BYTES: usize = 256;

/// Types by number (pg_type.dat of PostgreSQL; these never change).
pub(crate) mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const XML: u32 = 142;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const UNKNOWN: u32 = 705;
    pub const CIDR: u32 = 650;
    pub const INET: u32 = 869;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const TIMETZ: u32 = 1266;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
    /// Arrays of the above whose elements are sent with their own type number.
    pub const ARRAYS: &[u32] = &[
        1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1041, 651, 1115, 1182,
        1183, 1185, 1187, 1231, 1270, 199, 143, 2951, 3807,
    ];
}

/// Format of a value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

/// One value. `type_oid` 0 is a type that nobody has told.
pub fn decode(type_oid: u32, format: Format, value: Option<&[u8]>) -> Value {
    let Some(bytes) = value else { return Value::Null };
    match format {
        Format::Text => from_text(type_oid, bytes),
        Format::Binary => binary::decode(type_oid, bytes).unwrap_or_else(|| hexed(bytes)),
    }
}

/// All values of a Bind as a JSON array. `types` are the statement's, as far as they are known; `secret` are the
/// numbers (from 1) of parameters that are not shown.
pub fn to_json(bind: &Bind, types: &[u32], secret: &[usize]) -> String {
    let mut values = Vec::new();
    let mut bytes = 0;
    for (place, value) in bind.parameters.iter().enumerate() {
        let format = match bind.parameter_formats.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(place).copied().unwrap_or(0),
        };
        let format = if format == 0 { Format::Text } else { Format::Binary };
        let type_oid = types.get(place).copied().unwrap_or(0);
        bytes += 8 + value.as_ref().map_or(0, |value| value.len().min(MAX_VALUE_BYTES));
        if bytes > MAX_ALL_BYTES {
            let rest = bind.parameters.get(place..).unwrap_or_default();
            values.push(json!({ "more": rest.len(), "sha256": digest_of(rest) }));
            break;
        }
        values.push(if secret.contains(&(place + 1)) {
            Value::from("***")
        } else {
            decode(type_oid, format, value.as_deref())
        });
    }
    Value::Array(values).to_string()
}

/// All values of a Bind as a JSON array, each whole. None if one is too long for that.
pub fn whole(bind: &Bind, types: &[u32]) -> Option<String> {
    let text = to_json(bind, types, &[]);
    let values: Vec<Value> = serde_json::from_str(&text).ok()?;
    // What is cut stands as an object; no value does.
    let all = values.len() == bind.parameters.len() && !values.iter().any(Value::is_object);
    all.then_some(text)
}

/// Over length (8 bytes, big-endian; all ones for NULL) and bytes of each.
fn digest_of(values: &[Option<bytes::Bytes>]) -> String {
    let mut hash = Sha256::new();
    for value in values {
        hash.update(value.as_ref().map_or(u64::MAX, |value| value.len() as u64).to_be_bytes());
        hash.update(value.as_deref().unwrap_or_default());
    }
    hex::encode(hash.finalize())
}

fn from_text(type_oid: u32, bytes: &[u8]) -> Value {
    // In another encoding: as bytes, which nothing else looks like.
    let Ok(text) = std::str::from_utf8(bytes) else { return json!([hexed(bytes)]) };
    // A number stands as one where it reads the same again.
    match type_oid {
        oid::BOOL => match text {
            "t" | "true" => Value::Bool(true),
            "f" | "false" => Value::Bool(false),
            _ => texted(text),
        },
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => texted(text),
        },
        oid::FLOAT4 | oid::FLOAT8 => match text.parse::<f64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => texted(text),
        },
        _ => texted(text),
    }
}

pub(crate) fn texted(text: &str) -> Value {
    if text.len() <= MAX_VALUE_BYTES {
        return Value::from(text);
    }
    let mut end = MAX_VALUE_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    json!({
        "begins": text.get(..end).unwrap_or_default(),
        "bytes": text.len(),
        "sha256": hex::encode(Sha256::digest(text.as_bytes())),
    })
}

/// As `bytea` is written: `\x` and hex.
pub(crate) fn hexed(bytes: &[u8]) -> Value {
    match bytes.get(..MAX_HEX_BYTES) {
        Some(begins) if bytes.len() > MAX_HEX_BYTES => json!({
            "begins": format!("\\x{}", hex::encode(begins)),
            "bytes": bytes.len(),
            "sha256": hex::encode(Sha256::digest(bytes)),
        }),
        _ => Value::from(format!("\\x{}", hex::encode(bytes))),
    }
}

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;
