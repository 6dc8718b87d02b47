//! Secrets in statements: found token by token, so that they are masked also where nothing can be parsed.
//!
//! The text goes on to the server as it came; what is recorded, shown and held for a second person is masked.

mod code;
mod literal;

use std::borrow::Cow;

use code::Code;
use literal::Form;
pub(crate) use literal::goes_on;

use crate::classify::Backslashes;
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

/// A literal without any of these has no secret within.
const HINTS: &[&str] = &["pass", "pwd", "secret", "token", "key", "crypt", "digest", "hmac", "://"];
/// Longest text that is looked into.
const MAX_LOOKED_INTO_BYTES: usize = 16 * 1024 * 1024;
/// Statements in literals in statements: no deeper.
const MAX_DEPTH: u8 = 3;

/// A text whose secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked<'a> {
    pub text: Cow<'a, str>,
    /// What is hidden may be code that runs: who reads the text does not see all that it does.
    pub code_masked: bool,
}

/// The text with its secrets replaced by [`MASK`], under every way in which the server may read it.
pub fn mask_secrets(sql: &str, backslashes: impl Into<Backslashes>) -> Cow<'_, str> {
    mask(sql, backslashes).text
}

/// Whether masking a text hides what may be code.
pub fn masks_code(sql: &str, backslashes: impl Into<Backslashes>) -> bool {
    mask(sql, backslashes).code_masked
}

/// As [`mask_secrets`], and tells whether code was hidden. In a text of more than 16 MiB every literal is masked.
pub fn mask(sql: &str, backslashes: impl Into<Backslashes>) -> Masked<'_> {
    let backslashes = backslashes.into();
    let unsure = backslashes == Backslashes::Unsure && sql.contains('\\');
    if sql.len() > MAX_LOOKED_INTO_BYTES {
        return if unsure {
            mask_unreadable(sql)
        } else {
            mask_all(sql, backslashes == Backslashes::Escapes)
        };
    }
    if !sql.contains(['\'', '"', '$']) && !sql.contains("/*") {
        // No literal, and nothing that has no end.
        return Masked { text: Cow::Borrowed(sql), code_masked: false };
    }
    let mut found = Secrets::find(sql, backslashes == Backslashes::Escapes, 0, false);
    if unsure {
        found.join(Secrets::find(sql, true, 0, false));
    }
    found.apply(sql)
}

/// For a text in which a backslash may be half of a character: every literal is masked, and where it has a backslash
/// all from its first literal on, since nobody knows where that ends.
pub fn mask_unreadable(sql: &str) -> Masked<'_> {
    if !sql.contains('\\') {
        return mask_all(sql, false);
    }
    match tokens(sql, false).find(is_literal) {
        Some(first) => {
            let text = Cow::Owned(format!("{}{MASK} \u{2026}", sql.get(..first.at).unwrap_or_default()));
            Masked { text, code_masked: true }
        }
        None => Masked { text: Cow::Borrowed(sql), code_masked: false },
    }
}

fn mask_all(sql: &str, backslashes: bool) -> Masked<'_> {
    let mut all = Secrets::default();
    for token in tokens(sql, backslashes).filter(is_literal) {
        all.hide(token.at, token.at + token.text.len(), true);
    }
    all.apply(sql)
}

fn is_literal(token: &Token<'_>) -> bool {
    matches!(token.kind, TokenKind::Text | TokenKind::Unended)
}

/// The numbers (from 1) of parameters that stand where a secret would: `SET password = $2`.
pub fn secret_parameters(sql: &str, backslashes: bool) -> Vec<usize> {
    let (mut context, mut found) = (Context::default(), Vec::new());
    for token in tokens(sql, backslashes) {
        if token.kind == TokenKind::Parameter && context.is_secret() {
            found.extend(token.text.get(1..).and_then(|number| number.parse::<usize>().ok()));
        }
        context.take(&token, false);
    }
    found
}

/// The numbers of all that may be a parameter, wherever it stands.
pub fn all_parameters(sql: &str) -> Vec<usize> {
    let digits = |text: &str| text.bytes().take(6).take_while(u8::is_ascii_digit).count();
    let number = |text: &str| text.get(..digits(text)).and_then(|number| number.parse().ok());
    let mut found: Vec<usize> = sql.split('$').skip(1).filter_map(number).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A part of a text, and what is shown in its place.
struct Hidden {
    from: usize,
    to: usize,
    shown: Cow<'static, str>,
}

/// What is to be masked in a text.
#[derive(Default)]
struct Secrets {
    hidden: Vec<Hidden>,
    code_masked: bool,
}

impl Secrets {
    fn hide(&mut self, from: usize, to: usize, code: bool) {
        self.hidden.push(Hidden { from, to, shown: Cow::Borrowed(MASK) });
        self.code_masked |= code;
    }

    /// `bare`: the text is a literal's and may be a connection string, whose values have no quotes.
    fn find(sql: &str, backslashes: bool, depth: u8, bare: bool) -> Self {
        let mut found = Self::default();
        let mut context = Context::default();
        let mut tokens = tokens(sql, backslashes).peekable();
        let mut done = 0;
        while let Some(token) = tokens.next() {
            let end = token.at + token.text.len();
            if token.at < done {
                continue;
            }
            if is_literal(&token) {
                found.look_into(&token, backslashes, depth, &context);
            } else if bare && context.has_value() && is_value(&token) {
                // All that hangs together with it, unless it is a function's name.
                let (mut to, mut code) = (end, token.kind == TokenKind::Operator);
                while let Some(next) = tokens.next_if(|next| next.at == to && is_value(next)) {
                    code |= next.kind == TokenKind::Operator;
                    to = next.at + next.text.len();
                }
                if !tokens.peek().is_some_and(|next| next.is_mark("(")) {
                    found.hide(token.at, to, code);
                }
                context.named = false;
                continue;
            } else if bare
                && token.text.starts_with("//")
                && let Some((from, to)) = password_in_url(sql, token.at + 2)
            {
                let code = sql.get(from..to).is_some_and(|hidden| hidden.contains([';', '(', ')']));
                found.hide(from, to, code);
                done = to;
            }
            context.take(&token, bare);
        }
        found
    }

    /// A literal: a secret, a text with a secret in it, or statements, in which only the secrets are masked.
    fn look_into(&mut self, token: &Token<'_>, backslashes: bool, depth: u8, context: &Context) {
        let end = token.at + token.text.len();
        let content = literal::content(token.text, backslashes);
        let secret = context.is_secret();
        if !secret && !has_hint(&content.text) && !has_hint(token.text) {
            return;
        }
        let code = if content.form == Form::Bits { Code::No } else { code::code(&content.text, backslashes) };
        // One that does not end is not run.
        let ends = token.kind == TokenKind::Text || content.form == Form::Dollar;
        // A sentence may be a password; what comes straight behind the word PASSWORD is one.
        let shows = match secret {
            true => code == Code::Surely && !context.follows_password(),
            false => code >= Code::Perhaps,
        };
        if shows && ends && depth < MAX_DEPTH {
            let bare = content.form != Form::Dollar || !content.text.contains(';');
            let inside = Self::find(&content.text, backslashes, depth + 1, bare);
            if !inside.hidden.is_empty() {
                let masked = inside.apply(&content.text);
                self.code_masked |= masked.code_masked;
                let shown = Cow::Owned(literal::rewritten(token.text, content.form, &masked.text));
                self.hidden.push(Hidden { from: token.at, to: end, shown });
            }
        } else if secret || is_secret_text(&content.text) || is_secret_text(token.text) {
            self.hide(token.at, end, code >= if secret { Code::Surely } else { Code::Perhaps });
        }
    }

    /// Adds what another way of reading found. Where they overlap, all of both is hidden.
    fn join(&mut self, other: Self) {
        self.code_masked |= other.code_masked;
        let mut all = std::mem::take(&mut self.hidden);
        all.extend(other.hidden);
        all.sort_by_key(|hidden| (hidden.from, hidden.to));
        for hidden in all {
            match self.hidden.last_mut() {
                Some(last) if hidden.from < last.to => {
                    if (last.from, last.to, &last.shown) != (hidden.from, hidden.to, &hidden.shown) {
                        last.to = last.to.max(hidden.to);
                        last.shown = Cow::Borrowed(MASK);
                        self.code_masked = true;
                    }
                }
                _ => self.hidden.push(hidden),
            }
        }
    }

    fn apply(self, sql: &str) -> Masked<'_> {
        if self.hidden.is_empty() {
            return Masked { text: Cow::Borrowed(sql), code_masked: false };
        }
        let (mut out, mut done) = (String::with_capacity(sql.len()), 0);
        for hidden in self.hidden {
            out.push_str(sql.get(done..hidden.from).unwrap_or_default());
            out.push_str(&hidden.shown);
            done = hidden.to;
        }
        out.push_str(sql.get(done..).unwrap_or_default());
        Masked { text: Cow::Owned(out), code_masked: self.code_masked }
    }
}

/// May be in a value without quotes.
fn is_value(token: &Token<'_>) -> bool {
    match token.kind {
        TokenKind::Word | TokenKind::Number | TokenKind::Quoted | TokenKind::Operator => true,
        TokenKind::Mark => matches!(token.text, "." | ":" | "[" | "]"),
        TokenKind::Text | TokenKind::Unended | TokenKind::Parameter => false,
    }
}

/// Where the password is in a URL whose authority begins at `at`.
fn password_in_url(sql: &str, at: usize) -> Option<(usize, usize)> {
    let authority = sql.get(at..)?.split(['/', '?', '#', ' ', '\'']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let colon = user.find(':')?;
    Some((at + colon + 1, at + user.len()))
}

fn has_hint(literal: &str) -> bool {
    let lower = literal.to_ascii_lowercase();
    HINTS.iter().any(|hint| lower.contains(hint))
}

/// A text that has a secret within: `host=x password=y`, a URL with a password in it. All of it goes: where a secret
/// ends in there is a guess.
fn is_secret_text(literal: &str) -> bool {
    has_key_value(literal) || is_url_with_password(literal)
}

/// What follows each word with one of the parts, blanks aside.
fn after_secret_words(literal: &str) -> Vec<String> {
    let lower = literal.to_ascii_lowercase();
    if !SECRET_PARTS.iter().any(|part| lower.contains(part)) {
        return Vec::new();
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut rest) = (Vec::new(), lower.as_str());
    while let Some(begin) = rest.find(is_word) {
        let word = rest.get(begin..).unwrap_or_default();
        let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
        let (word, after) = word.split_at_checked(end).unwrap_or((word, ""));
        if SECRET_PARTS.iter().any(|part| word.contains(part)) {
            found.push(after.trim_start_matches('"').trim_start().chars().take(64).collect());
        }
        rest = after;
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
    /// Behind the name came `=` or the like.
    valued: bool,
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

    /// `PASSWORD 'x'`, which is no value that could be run.
    fn follows_password(&self) -> bool {
        self.named && !self.valued
    }

    /// `password =`.
    fn has_value(&self) -> bool {
        self.named && self.valued
    }

    /// `bare` as in [`Secrets::find`].
    fn take(&mut self, token: &Token<'_>, bare: bool) {
        match token.kind {
            TokenKind::Word | TokenKind::Quoted => {
                let name = token.name();
                let among = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(&name));
                self.valued = false;
                self.callee = among(SECRET_CALLS);
                let secret = among(SECRET_NAMES) || name.to_ascii_lowercase().ends_with("_password");
                // `password TO 'x'`, `SET x.password TO 'x'`, `password IS 'x'` keep it.
                self.named =
                    secret || (self.named && (token.is("to") || token.is("is") || token.is("encrypted")));
            }
            TokenKind::Operator => {
                self.callee = false;
                self.named &= matches!(token.text, "=" | "=>" | ":=" | "||");
                self.valued |= self.named;
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
                self.named &= bare && token.text == ":";
                self.valued |= self.named;
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
            ("ALTER ROLE a PASSWORD /* x */ 'zq'\n'zq2'", "ALTER ROLE a PASSWORD /* x */ '***'"),
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
                "do $$ begin execute 'alter role a password ''***'''; end $$",
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

    /// Who runs code must not be able to hide it behind a word.
    #[test]
    fn code_stays_visible_around_its_secrets() {
        for (sql, shown) in [
            (
                "DO 'BEGIN EXECUTE ''DROP TABLE orders'' /* password=x */; END'",
                "DO 'BEGIN EXECUTE ''DROP TABLE orders'' /* password=x */; END'",
            ),
            (
                "SELECT query_to_xml('delete from orders --token; password=1', true, true, '')",
                "SELECT query_to_xml('delete from orders --token; password=1', true, true, '')",
            ),
            (
                "SELECT query_to_xml('delete from orders where ''password=1'' <> ''''', true, true, '')",
                "SELECT query_to_xml('delete from orders where ''***'' <> ''''', true, true, '')",
            ),
            (
                "DO E'begin alter role a password \\'zq\\'; drop table t; end'",
                "DO E'begin alter role a password ''***''; drop table t; end'",
            ),
            (
                "do $$ declare password text := 'drop table orders'; begin execute password; end $$",
                "do $$ declare password text := 'drop table orders'; begin execute password; end $$",
            ),
            (
                "do $$ begin password := 'drop table orders'; execute password; end $$",
                "do $$ begin password := 'drop table orders'; execute password; end $$",
            ),
            (
                "select 'a password ', query_to_xml('delete from orders', true, true, '')",
                "select 'a password ', query_to_xml('delete from orders', true, true, '***')",
            ),
            (
                "select crypt(query_to_xml('delete from orders', true, true, 'zq')::text, 'zq')",
                "select crypt(query_to_xml('delete from orders', true, true, '***')::text, '***')",
            ),
            (
                "select dblink_exec('host=h user=set password=zq', 'alter role b password ''zq''')",
                "select dblink_exec('host=h user=set password=''***''', 'alter role b password ''***''')",
            ),
            (
                "select dblink('postgresql://u:zq@h/d?options=select set', 'truncate orders')",
                "select dblink('postgresql://u:''***''@h/d?options=select set', 'truncate orders')",
            ),
            (
                "select query_to_xml('select 1 where password=drop_all()', true, true, '')",
                "select query_to_xml('select 1 where password=drop_all()', true, true, '')",
            ),
            ("insert into t values ('{\"password\": \"zq\", \"do\": 1}')", "insert into t values ('***')"),
            ("update users set password = 'correct horse do battery'", "update users set password = '***'"),
            ("alter role a password 'drop table orders'", "alter role a password '***'"),
        ] {
            assert_eq!(mask_secrets(sql, false), shown, "{sql}");
        }
        for (sql, hides) in [
            ("alter role a password 'zq'", false),
            ("do $$ begin alter role a password 'zq'; end $$", false),
            ("select dblink('host=h password=zq', 'select 1')", false),
            ("update t set password = 'do it now'", false),
            ("select query_to_xml(password 'delete from orders', true, true, '')", true),
            ("do 'begin perform ''x'' where password=a||b; end'", true),
        ] {
            assert_eq!(masks_code(sql, false), hides, "{sql}");
        }
        let deep = |sql: &str| format!("execute '{}'", sql.replace('\'', "''"));
        let nested = deep(&deep(&deep(&deep(&deep("alter role a password 'zqsecret'")))));
        let masked = mask(&nested, false);
        assert!(!masked.text.contains("zqsecret") && masked.code_masked, "{masked:?}");
    }

    #[test]
    fn a_secret_goes_on_in_the_next_line() {
        for sql in [
            "alter role a PASSWORD E'x'\n'y\\'zqsecret'",
            "alter role a PASSWORD E'x' -- it's\n\t'y\\'zqsecret'",
            "alter role a PASSWORD $\\xe9$zqsecret$\\xe9$",
        ] {
            assert!(!mask_secrets(sql, false).contains("zqsecret"), "{sql}");
        }
        // Read either way.
        let sql = "select 'a\\', password = 'zqsecret', '\\'";
        assert!(!mask_secrets(sql, Backslashes::Unsure).contains("zqsecret"));
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
