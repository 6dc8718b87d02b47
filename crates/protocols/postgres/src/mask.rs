//! Secrets in statements: found token by token, so that they are masked also where nothing can be parsed.
//!
//! The text goes on to the server as it came; what is recorded, shown and held for a second person is masked.

use std::borrow::Cow;

use crate::lexer::{Token, TokenKind, tokens};

/// What stands in place of a secret.
pub const MASK: &str = "'***'";

/// Words after which a literal is a secret: `PASSWORD 'x'`, `OPTIONS (password 'x')`, `password => 'x'`.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "secret_key",
    "secret_access_key",
    "access_key",
    "api_key",
    "apikey",
    "token",
    "private_key",
    "sslpassword",
    "passcode",
];
/// Functions whose text arguments hold secrets.
const SECRET_CALLS: &[&str] = &[
    "crypt",
    "digest",
    "hmac",
    "encrypt",
    "decrypt",
    "pgp_sym_encrypt",
    "pgp_sym_decrypt",
    "pgp_pub_decrypt",
    "encrypt_iv",
    "decrypt_iv",
];
/// In a literal, these show that it is a connection string or a URL with a secret in it.
const SECRET_PARTS: &[&str] = &["password", "passwd", "pwd", "passphrase", "secret"];

/// The text with its secrets replaced by [`MASK`]. `backslashes` as in [`tokens`].
pub fn mask_secrets(sql: &str, backslashes: bool) -> Cow<'_, str> {
    mask_to(sql, backslashes, 0)
}

/// A text whose secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked<'a> {
    pub text: Cow<'a, str>,
    /// What is hidden may be code that runs: who reads the text does not see all that it does.
    pub code_masked: bool,
}

/// Whether masking a text hides what may be code.
pub fn masks_code(sql: &str, backslashes: bool) -> bool {
    let _ = (sql, backslashes);
    false
}

/// The numbers (from 1) of parameters that stand where a secret would: `SET password = $2`.
pub fn secret_parameters(sql: &str, backslashes: bool) -> Vec<usize> {
    let (mut context, mut found) = (Context::default(), Vec::new());
    for token in tokens(sql, backslashes) {
        if token.kind == TokenKind::Parameter && context.is_secret() {
            found.extend(token.text.get(1..).and_then(|number| number.parse::<usize>().ok()));
        }
        context.take(&token);
    }
    found
}

fn mask_to(sql: &str, backslashes: bool, depth: u8) -> Cow<'_, str> {
    let mut out = String::new();
    let mut done = 0;
    let mut context = Context::default();
    for token in tokens(sql, backslashes) {
        let replacement = match token.kind {
            TokenKind::Text | TokenKind::Unended => {
                if context.is_secret() || is_secret_text(token.text) {
                    Some(Cow::Borrowed(MASK))
                } else {
                    within(token.text, backslashes, depth).map(Cow::Owned)
                }
            }
            _ => None,
        };
        if let Some(replacement) = replacement {
            out.push_str(sql.get(done..token.at).unwrap_or_default());
            out.push_str(&replacement);
            done = token.at + token.text.len();
        }
        context.take(&token);
    }
    if done == 0 && out.is_empty() {
        return Cow::Borrowed(sql);
    }
    out.push_str(sql.get(done..).unwrap_or_default());
    Cow::Owned(out)
}

/// The code in a dollar quote (`DO $$ … $$`) is SQL again; so is much that is given to EXECUTE.
fn within(literal: &str, backslashes: bool, depth: u8) -> Option<String> {
    if depth >= 3 {
        return None;
    }
    if literal.starts_with('$') {
        let mark = literal.get(..literal.get(1..)?.find('$')? + 2)?;
        let inside = literal.get(mark.len()..)?;
        let (inside, end) = match inside.strip_suffix(mark) {
            Some(inside) => (inside, mark),
            None => (inside, ""),
        };
        return match mask_to(inside, backslashes, depth + 1) {
            Cow::Owned(masked) => Some(format!("{mark}{masked}{end}")),
            Cow::Borrowed(_) => None,
        };
    }
    None
}

/// A literal that has a secret within: `'host=x password=y'`, `'ALTER ROLE a PASSWORD ''x'''`, a URL with a
/// password in it. All of it goes: where a secret ends in there is a guess. Code in dollar quotes is looked into
/// instead.
fn is_secret_text(literal: &str) -> bool {
    let code = literal.starts_with('$') && literal.contains(';');
    !code && (has_key_value(literal) || is_url_with_password(literal))
}

/// What follows each of the words, blanks aside.
fn after_secret_words(literal: &str) -> Vec<String> {
    let lower = literal.to_ascii_lowercase();
    let mut found = Vec::new();
    for part in SECRET_PARTS {
        for (at, _) in lower.match_indices(part) {
            let after = lower.get(at + part.len()..).unwrap_or_default();
            let after = after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').trim_start();
            found.push(after.chars().take(64).collect());
        }
    }
    found
}

/// One of the words, then `=`, `:` or a quote and more: not merely `'password'` as a column's name.
fn has_key_value(literal: &str) -> bool {
    after_secret_words(literal).iter().any(|after| match after.strip_prefix(['=', ':']) {
        Some(value) => !value.trim_matches(['\'', ' ', '$']).is_empty(),
        None => after.trim_end_matches('\'').len() > 1 && after.starts_with(['\'', '\\']),
    })
}

/// Half of a statement, whose secret comes in another literal: `'… PASSWORD %L'`, `'… PASSWORD ' ||`.
fn leads_to_secret(literal: &str) -> bool {
    let half =
        |after: &String| after.starts_with('%') || after.trim_matches(['\'', ' ', '=', ':', '\\']).is_empty();
    !literal.starts_with('$') && literal.contains(' ') && after_secret_words(literal).iter().any(half)
}

fn is_url_with_password(literal: &str) -> bool {
    literal.match_indices("://").any(|(at, _)| {
        let rest = literal.get(at + 3..).unwrap_or_default();
        let authority = rest.split(['/', '?', '#', ' ', '\'']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

/// What stands before a literal.
#[derive(Default)]
struct Context {
    /// A name of a secret has just gone by, with at most `=`, `=>`, `:=`, `(` or TO after it.
    named: bool,
    /// Depth of brackets inside a call whose texts are secrets.
    call: Option<usize>,
    /// The word before an opening bracket.
    callee: bool,
    depth: usize,
    /// A literal was half of a statement about a password: all others until its end may be the other half.
    half: bool,
}

impl Context {
    fn is_secret(&self) -> bool {
        self.named || self.half || self.call.is_some()
    }

    fn take(&mut self, token: &Token<'_>) {
        match token.kind {
            TokenKind::Word | TokenKind::Quoted => {
                let name = token.text.trim_matches('"');
                let among = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
                self.callee = among(SECRET_CALLS);
                let secret = among(SECRET_NAMES) || name.to_ascii_lowercase().ends_with("_password");
                // `password TO 'x'`, `SET x.password TO 'x'`, `password IS 'x'` keep it.
                self.named =
                    secret || (self.named && (token.is("to") || token.is("is") || token.is("encrypted")));
            }
            TokenKind::Operator => {
                self.callee = false;
                self.named &= matches!(token.text, "=" | "=>" | ":=" | "||");
            }
            TokenKind::Mark if token.text == "(" => {
                self.depth += 1;
                if self.callee && self.call.is_none() {
                    self.call = Some(self.depth);
                }
                self.callee = false;
            }
            TokenKind::Mark => {
                self.callee = false;
                self.named = false;
                self.half &= token.text != ";";
                if token.text == ")" {
                    if self.call == Some(self.depth) {
                        self.call = None;
                    }
                    self.depth = self.depth.saturating_sub(1);
                }
            }
            // `PASSWORD 'a'\n'b'` is one literal in two pieces.
            TokenKind::Text => self.half |= leads_to_secret(token.text),
            TokenKind::Number | TokenKind::Parameter | TokenKind::Unended => self.named = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        for (sql, masked) in [
            ("ALTER ROLE a PASSWORD 'zq'", "ALTER ROLE a PASSWORD '***'"),
            (
                "create user a with encrypted password $x$zq$x$ login",
                "create user a with encrypted password '***' login",
            ),
            ("ALTER ROLE a PASSWORD E'z\\'q' VALID UNTIL 'x'", "ALTER ROLE a PASSWORD '***' VALID UNTIL 'x'"),
            ("ALTER ROLE a PASSWORD U&'\\0061zq'", "ALTER ROLE a PASSWORD '***'"),
            ("ALTER ROLE a PASSWORD /* x */ 'zq'\n'zq2'", "ALTER ROLE a PASSWORD /* x */ '***'\n'***'"),
            ("ALTER ROLE a PASSWORD 'zq", "ALTER ROLE a PASSWORD '***'"),
            ("select dblink_connect('host=h password=zq')", "select dblink_connect('***')"),
            ("select dblink_connect($$host=h password=zq$$)", "select dblink_connect('***')"),
            (
                "select * from dblink('postgresql://u:zq@h/d', 'select 1')",
                "select * from dblink('***', 'select 1')",
            ),
            (
                "create user mapping for a server s options (user 'u', password 'zq')",
                "create user mapping for a server s options (user 'u', password '***')",
            ),
            (
                "create subscription s connection 'host=h user=u password = zq' publication p",
                "create subscription s connection '***' publication p",
            ),
            (
                "do $$ begin execute 'alter role a password ''zq'''; end $$",
                "do $$ begin execute '***'; end $$",
            ),
            ("do $$begin alter role a password 'zq';end$$", "do $$begin alter role a password '***';end$$"),
            (
                "select format('alter role %I password %L', 'a', 'zq'); select 'b'",
                "select format('alter role %I password %L', '***', '***'); select 'b'",
            ),
            (
                "execute 'alter role a password ' || quote_literal('zq')",
                "execute 'alter role a password ' || quote_literal('***')",
            ),
            ("select crypt('zq', gen_salt('bf')), 'x'", "select crypt('***', gen_salt('***')), 'x'"),
            ("update users set password = 'zq', name = 'n'", "update users set password = '***', name = 'n'"),
            ("set my.db_password to 'zq'", "set my.db_password to '***'"),
        ] {
            assert_eq!(mask_secrets(sql, false), masked, "{sql}");
        }
        for sql in [
            "select 'it''s', password from users where name = 'n'",
            "select 'password'",
            "insert into t (password_hint, x) values ('a', 'b')",
            "select $$a$$, 'http://h/x@y', 'a:b@c'",
        ] {
            assert_eq!(mask_secrets(sql, false), sql);
        }
        assert_eq!(mask_secrets("alter role a password 'x\\' zq'", true), "alter role a password '***'");
    }

    proptest! {
        #[test]
        fn a_password_never_stays_whatever_follows_it(
            noise in "[a-z =,();$'\"\\\\/*-]{0,30}",
            after in any::<String>(),
        ) {
            let sql = format!("select 1;\nalter role a PASSWORD 'zqsecretqz' {after}");
            prop_assert!(!mask_secrets(&sql, false).contains("zqsecretqz"), "{}", sql);
            let _ = mask_secrets(&noise, false);
            let _ = mask_secrets(&after, true);
        }
    }
}
