//! SCRAM-SHA-1 and SCRAM-SHA-256, with and without channel binding (RFC 5802, RFC 7677, RFC 9266).
//!
//! The server must prove that it knows the account; after the first sign-in only what SCRAM needs is kept, not the
//! password.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{TLS_EXPORTER, shown};
use crate::domain::{
    credentials::{Credentials, ScramHash, ScramKeys, Secret},
    stream::{Refusal, StreamEnd},
};

/// Most iterations that a server may ask for: about half a second of one core. Fewer than the recommended 4096 are
/// accepted, since refusing would shut out old servers, and the number is only read over verified TLS.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The channel binding of a sign-in (RFC 5802 section 6, the GS2 flag).
pub enum Binding {
    /// `p`: this data binds it to the TLS connection.
    Used(Vec<u8>),
    /// `y`: we could, but the server did not offer it.
    NotOffered,
    /// `n`: we cannot.
    NotSupported,
}

/// A sign-in by SCRAM.
pub struct Scram {
    hash: ScramHash,
    credentials: Credentials,
    gs2: String,
    binding: Vec<u8>,
    nonce: String,
    first_bare: String,
    host: String,
    /// What the server offered, as it came (XEP-0474 section 4.1).
    offered: Option<String>,
    step: Step,
}

enum Step {
    First,
    /// The proof was sent; the server must show this signature.
    Proven {
        signature: Vec<u8>,
        keys: ScramKeys,
    },
    Verified(ScramKeys),
}

/// Prepares text by `SASLprep` (RFC 4013). Text that it forbids is used as it is: servers that took it as a password took it so.
pub fn prepared(text: &str) -> String {
    stringprep::saslprep(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

impl Scram {
    /// `nonce`: fresh, printable ASCII without comma.
    pub fn new(
        hash: ScramHash,
        user: &str,
        credentials: Credentials,
        binding: Binding,
        nonce: &str,
        host: &str,
    ) -> Self {
        let (gs2, binding) = match binding {
            Binding::Used(data) => (format!("p={TLS_EXPORTER},,"), data),
            Binding::NotOffered => ("y,,".to_owned(), Vec::new()),
            Binding::NotSupported => ("n,,".to_owned(), Vec::new()),
        };
        let user = prepared(user).replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let (nonce, host) = (nonce.to_owned(), host.to_owned());
        Self { hash, credentials, gs2, binding, nonce, first_bare, host, offered: None, step: Step::First }
    }

    /// Where the server tells the hash of what it offered, `offered` must be what it hashed (XEP-0474): so nobody in between
    /// can have taken the stronger mechanisms away.
    #[must_use]
    pub fn guarding(mut self, offered: String) -> Self {
        self.offered = Some(offered);
        self
    }

    /// `client-first-message`.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2, self.first_bare)
    }

    /// Answers the server's message: the first with the proof, the final one with nothing.
    pub async fn challenge(&mut self, data: &[u8]) -> Result<Vec<u8>, StreamEnd> {
        let message = std::str::from_utf8(data).map_err(|_| malformed())?;
        match &self.step {
            Step::First => self.prove(message).await,
            Step::Proven { .. } => {
                self.verify(message)?;
                Ok(Vec::new())
            }
            Step::Verified(_) => Err(malformed()),
        }
    }

    /// Takes the data of `<success/>`, which may be the server's final message. Without its proof there is no success.
    pub fn success(mut self, data: &[u8]) -> Result<Option<Credentials>, StreamEnd> {
        if let (Step::Proven { .. }, Ok(message)) = (&self.step, std::str::from_utf8(data)) {
            self.verify(message)?;
        }
        match self.step {
            Step::Verified(keys) => {
                Ok(matches!(self.credentials, Credentials::Password(_)).then_some(Credentials::Scram(keys)))
            }
            _ => Err(StreamEnd::ServerNotVerified { host: self.host }),
        }
    }

    async fn prove(&mut self, message: &str) -> Result<Vec<u8>, StreamEnd> {
        let mut parts = message.split(',');
        // A mandatory extension (`m=`) would stand first.
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or_else(malformed)?;
        let salt = parts.next().and_then(|part| part.strip_prefix("s=")).ok_or_else(malformed)?;
        let salt = STANDARD.decode(salt).map_err(|_| malformed())?;
        let iterations = parts.next().and_then(|part| part.strip_prefix("i=")).ok_or_else(malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| malformed())?;
        let fresh = nonce.strip_prefix(self.nonce.as_str()).is_some_and(|rest| !rest.is_empty());
        if !fresh || iterations == 0 {
            return Err(malformed());
        }
        if iterations > MAX_ITERATIONS {
            return Err(StreamEnd::Refused(Refusal::Other("too many SCRAM iterations are asked for".to_owned())));
        }
        if let (Some(told), Some(offered)) = (parts.find_map(|part| part.strip_prefix("h=")), &self.offered)
            && told != STANDARD.encode(digest(self.hash, offered.as_bytes()))
        {
            return Err(StreamEnd::Tampered { host: self.host.clone() });
        }
        let keys = self.keys(salt, iterations).await?;
        let channel = STANDARD.encode([self.gs2.as_bytes(), &self.binding].concat());
        let without_proof = format!("c={channel},r={nonce}");
        let auth_message = format!("{},{message},{without_proof}", self.first_bare);
        let stored_key = digest(self.hash, &keys.client_key);
        let mut proof = hmac(self.hash, &stored_key, auth_message.as_bytes());
        for (byte, key) in proof.iter_mut().zip(&keys.client_key) {
            *byte ^= key;
        }
        let signature = hmac(self.hash, &keys.server_key, auth_message.as_bytes());
        self.step = Step::Proven { signature, keys };
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes())
    }

    async fn keys(&self, salt: Vec<u8>, iterations: u32) -> Result<ScramKeys, StreamEnd> {
        match &self.credentials {
            Credentials::Scram(keys) => {
                let fits = keys.hash == self.hash && keys.salt == salt && keys.iterations == iterations;
                fits.then(|| keys.clone()).ok_or(StreamEnd::KeysOutdated)
            }
            Credentials::Password(password) => {
                let (hash, password) = (self.hash, password.clone());
                let derived = tokio::task::spawn_blocking(move || derive(hash, &password, salt, iterations)).await;
                derived.map_err(|error| StreamEnd::Lost { detail: error.to_string() })
            }
            Credentials::Token(_) | Credentials::OAuth(_) => Err(malformed()),
        }
    }

    fn verify(&mut self, message: &str) -> Result<(), StreamEnd> {
        let Step::Proven { signature, keys } = &self.step else { return Err(malformed()) };
        if let Some(error) = message.strip_prefix("e=") {
            let error = error.split(',').next().unwrap_or_default();
            return Err(StreamEnd::Refused(match error {
                "invalid-proof" | "unknown-user" => Refusal::NotAuthorized,
                other => Refusal::Other(shown(other)),
            }));
        }
        let shown = message.split(',').next().and_then(|part| part.strip_prefix("v="));
        let shown = shown.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        if !bool::from(shown.ct_eq(signature)) {
            return Err(StreamEnd::ServerNotVerified { host: self.host.clone() });
        }
        self.step = Step::Verified(keys.clone());
        Ok(())
    }
}

fn malformed() -> StreamEnd {
    StreamEnd::Lost { detail: "the server's part of the sign-in makes no sense".to_owned() }
}

fn derive(hash: ScramHash, password: &Secret, salt: Vec<u8>, iterations: u32) -> ScramKeys {
    let password = Zeroizing::new(prepared(password.expose()));
    let mut salted = match hash {
        ScramHash::Sha1 => pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), &salt, iterations).to_vec(),
        ScramHash::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, iterations).to_vec(),
    };
    let client_key = hmac(hash, &salted, b"Client Key");
    let server_key = hmac(hash, &salted, b"Server Key");
    salted.zeroize();
    ScramKeys { hash, salt, iterations, client_key, server_key }
}

fn digest(hash: ScramHash, data: &[u8]) -> Vec<u8> {
    match hash {
        ScramHash::Sha1 => Sha1::digest(data).to_vec(),
        ScramHash::Sha256 => Sha256::digest(data).to_vec(),
    }
}

fn hmac(hash: ScramHash, key: &[u8], data: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length, so the constructors cannot fail (RFC 2104 section 3).
    match hash {
        ScramHash::Sha1 => {
            Hmac::<Sha1>::new_from_slice(key).map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        }
        ScramHash::Sha256 => {
            Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        }
    }
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pencil() -> Credentials {
        Credentials::Password(Secret::new("pencil"))
    }

    fn scram(hash: ScramHash, credentials: Credentials, nonce: &str) -> Scram {
        Scram::new(hash, "user", credentials, Binding::NotSupported, nonce, "h")
    }

    const SHA1_NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";
    const SHA1_FIRST: &str = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
    const SHA1_FINAL: &str = "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=";

    /// XEP-0474 section 4.3: the example's hash, and the same with a mechanism taken away.
    #[tokio::test]
    async fn an_offer_that_was_changed_on_the_way_ends_the_sign_in_before_the_proof() {
        let first = "r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,s=QSXCR+Q6sek8bf92,i=4096,\
                     h=G6k/rBLDqgOhRRaCuuatSDFkJ08=";
        let nonce = "12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6";
        let whole = "SCRAM-SHA-1\u{1e}SCRAM-SHA-1-PLUS\u{1f}tls-exporter\u{1e}tls-server-end-point";
        let mut honest = scram(ScramHash::Sha1, pencil(), nonce).guarding(whole.to_owned());
        assert!(honest.challenge(first.as_bytes()).await.is_ok());
        for changed in ["SCRAM-SHA-1\u{1f}tls-exporter\u{1e}tls-server-end-point", "SCRAM-SHA-1\u{1e}SCRAM-SHA-1-PLUS"]
        {
            let mut scram = scram(ScramHash::Sha1, pencil(), nonce).guarding(changed.to_owned());
            let end = scram.challenge(first.as_bytes()).await.unwrap_err();
            assert_eq!(end, StreamEnd::Tampered { host: "h".to_owned() });
        }
    }

    /// RFC 5802 section 5.
    #[tokio::test]
    async fn the_example_of_rfc_5802() {
        let mut scram = scram(ScramHash::Sha1, pencil(), SHA1_NONCE);
        assert_eq!(scram.first(), "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let proof = scram.challenge(SHA1_FIRST.as_bytes()).await.unwrap();
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        let Ok(Some(Credentials::Scram(keys))) = scram.success(SHA1_FINAL.as_bytes()) else { panic!() };
        assert_eq!(keys.iterations, 4096);

        // What was kept signs in like the password, with the final message in a challenge of its own.
        let mut again = super::Scram::new(
            ScramHash::Sha1,
            "user",
            Credentials::Scram(keys),
            Binding::NotSupported,
            SHA1_NONCE,
            "h",
        );
        let proof = again.challenge(SHA1_FIRST.as_bytes()).await.unwrap();
        assert!(proof.ends_with(b"p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="));
        assert_eq!(again.challenge(SHA1_FINAL.as_bytes()).await, Ok(Vec::new()));
        assert_eq!(again.success(b""), Ok(None));
    }

    /// RFC 7677 section 3.
    #[tokio::test]
    async fn the_example_of_rfc_7677() {
        let mut scram = scram(ScramHash::Sha256, pencil(), "rOprNGfwEbeRWgbNEkqO");
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.challenge(first.as_bytes()).await.unwrap();
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(scram.success(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap().is_some());
    }

    #[tokio::test]
    async fn a_server_that_cannot_prove_itself_is_not_believed() {
        for data in ["", "v=", "v=AAAA", "v=rmF9pqV8S7suAoZWja4dJRkFsKg="] {
            let mut scram = scram(ScramHash::Sha1, pencil(), SHA1_NONCE);
            scram.challenge(SHA1_FIRST.as_bytes()).await.unwrap();
            assert_eq!(scram.success(data.as_bytes()), Err(StreamEnd::ServerNotVerified { host: "h".to_owned() }));
        }
        let unasked = scram(ScramHash::Sha1, pencil(), SHA1_NONCE).success(SHA1_FINAL.as_bytes());
        assert_eq!(unasked, Err(StreamEnd::ServerNotVerified { host: "h".to_owned() }));
        let mut refused = scram(ScramHash::Sha1, pencil(), SHA1_NONCE);
        refused.challenge(SHA1_FIRST.as_bytes()).await.unwrap();
        assert_eq!(refused.success(b"e=invalid-proof"), Err(StreamEnd::Refused(Refusal::NotAuthorized)));
    }

    #[tokio::test]
    async fn a_first_message_that_makes_no_sense_gets_no_proof() {
        for message in [
            "",
            "r=other,s=QSXCR+Q6sek8bf92,i=4096",
            "r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096",
            "m=x,r=fyko+d2lbbFgONRv9qkxdawL3,s=QSXC,i=4096",
            "r=fyko+d2lbbFgONRv9qkxdawL3,s=*,i=4096",
            "r=fyko+d2lbbFgONRv9qkxdawL3,s=QSXC,i=0",
            "r=fyko+d2lbbFgONRv9qkxdawL3,s=QSXC,i=1000001",
            "r=fyko+d2lbbFgONRv9qkxdawL3,s=QSXC,i=99999999999",
        ] {
            let mut scram = scram(ScramHash::Sha1, pencil(), SHA1_NONCE);
            assert!(scram.challenge(message.as_bytes()).await.is_err(), "{message}");
        }
    }

    #[tokio::test]
    async fn keys_for_another_salt_are_outdated() {
        let keys = derive(ScramHash::Sha1, &Secret::new("pencil"), b"salt".to_vec(), 4096);
        let mut scram = scram(ScramHash::Sha1, Credentials::Scram(keys), SHA1_NONCE);
        assert_eq!(scram.challenge(SHA1_FIRST.as_bytes()).await, Err(StreamEnd::KeysOutdated));
    }

    #[test]
    fn names_are_escaped_and_the_binding_flag_says_what_is_so() {
        let first = |binding| Scram::new(ScramHash::Sha1, "a=b,c", pencil(), binding, "N", "h").first();
        assert_eq!(first(Binding::Used(vec![1])), "p=tls-exporter,,n=a=3Db=2Cc,r=N");
        assert_eq!(first(Binding::NotOffered), "y,,n=a=3Db=2Cc,r=N");
        assert_eq!(first(Binding::NotSupported), "n,,n=a=3Db=2Cc,r=N");
    }

    /// RFC 4013 section 3.
    #[test]
    fn passwords_are_prepared() {
        assert_eq!(prepared("I\u{ad}X"), "IX");
        assert_eq!(prepared("\u{aa}"), "a");
        assert_eq!(prepared(" a b "), " a b ");
        assert_eq!(prepared("\u{7}"), "\u{7}");
    }
}
