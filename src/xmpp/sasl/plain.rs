//! PLAIN (RFC 4616): only over TLS, and only where no SCRAM is offered.

use zeroize::Zeroizing;

use crate::domain::credentials::Secret;

/// `[authzid] NUL authcid NUL passwd`.
pub fn initial(user: &str, password: &Secret) -> Secret {
    let password = Zeroizing::new(super::scram::prepared(password.expose()));
    Secret::new(format!("\0{user}\0{}", *password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_of_a_password_are_kept() {
        assert_eq!(initial("tim", &Secret::new(" tanstaaf ")).expose(), "\0tim\0 tanstaaf ");
    }
}
