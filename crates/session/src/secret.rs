//! A value that must not be seen: wiped when dropped, absent from `Debug`, compared in constant time, never serialised.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

/// Holds a secret. The only way to its value is [`Secret::expose`], so that a search for that word finds every use.
pub struct Secret<T: Zeroize = String>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in.
    pub const fn new(value: T) -> Self {
        Self(value)
    }
    /// The value itself. Never log, format or store what comes out.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    /// Whether both hold the same bytes. Takes as long for a near miss as for a far one; lengths are not hidden.
    pub fn same_as(&self, other: &[u8]) -> bool {
        self.0.as_ref().ct_eq(other).into()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_still_compares() {
        let secret = Secret::new("correct horse".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "(secret) Some((secret))");
        assert!(secret.same_as(b"correct horse"));
        assert!(!secret.same_as(b"correct hors"));
        assert!(!secret.same_as(b"correct horsf"));
    }
}
