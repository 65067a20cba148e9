//! Where hub, cache and token are, by the variables that all of the hub's tools know.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{HubError, Result};
use super::url::Url;

const ENDPOINT: &str = "https://huggingface.co";

/// What the environment says about the hub.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) endpoint: Url,
    /// The folder of all repositories' caches.
    pub(super) cache: PathBuf,
    pub(super) token: Option<Token>,
    pub(super) is_offline: bool,
    /// A file of authorities that certificates are checked against.
    pub(super) certificates: Option<PathBuf>,
}

/// A secret that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_OFFLINE`, and what names authorities elsewhere: `SSL_CERT_FILE`,
    /// `REQUESTS_CA_BUNDLE`.
    ///
    /// # Errors
    /// When one of them makes no sense, or no folder can be found.
    pub(crate) fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let named = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| named(name).map(|value| value.to_string_lossy().trim().to_owned());
        let home = || {
            let caches = named("XDG_CACHE_HOME").map(PathBuf::from);
            let user = named("HOME").or_else(|| named("USERPROFILE"));
            let caches = caches.or_else(|| user.map(|user| Path::new(&user).join(".cache")));
            caches.map(|caches| caches.join("huggingface"))
        };
        let home = named("HF_HOME").map(PathBuf::from).or_else(home);
        let cache = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.map(PathBuf::from);
        let cache = cache.or_else(|| home.as_ref().map(|home| home.join("hub")));
        let cache = cache.ok_or_else(|| {
            HubError::usage("there is no home folder for the hub's cache; name one with HF_HOME")
        })?;
        let file = named("HF_TOKEN_PATH").map(PathBuf::from);
        let file = file.or_else(|| home.map(|home| home.join("token")));
        let token = match text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")) {
            Some(token) => Token::new(&token, "HF_TOKEN")?,
            None => file.map_or(Ok(None), |file| Token::read(&file))?,
        };
        let certificates = named("SSL_CERT_FILE").or_else(|| named("REQUESTS_CA_BUNDLE"));
        Ok(Self {
            certificates: certificates.map(PathBuf::from),
            endpoint: endpoint(text("HF_ENDPOINT").as_deref().unwrap_or(ENDPOINT))?,
            cache,
            token,
            is_offline: text("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
        })
    }
}

/// As the hub's own library reads a switch.
fn is_true(value: &str) -> bool {
    matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn endpoint(text: &str) -> Result<Url> {
    // Not shown: who writes a password into an address does not want to see it in a log.
    let wrong = "HF_ENDPOINT is no address of a hub; expected something like \
                 https://huggingface.co, without user, password, query";
    let url = Url::parse(text).filter(|_| !text.contains(['?', '#']));
    url.ok_or_else(|| HubError::usage(wrong))
}

impl Token {
    fn new(text: &str, source: &str) -> Result<Option<Self>> {
        let text = text.trim();
        match text.chars().all(|c| c.is_ascii_graphic()) {
            true => Ok((!text.is_empty()).then(|| Self(text.to_owned()))),
            false => Err(HubError::usage(format!(
                "the token in {source} has characters that no token has; copy it again from the \
                 hub's settings"
            ))),
        }
    }

    fn read(file: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::new(&text, &file.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HubError::io("cannot read the token in", file, error)),
        }
    }

    /// The value of the header `Authorization`.
    pub(super) fn to_header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_other_tools_have_it() {
        let cache = |variables: &[_]| settings(variables).unwrap().cache;
        let home = [("HOME", "h")];
        assert_eq!(cache(&home), Path::new("h/.cache/huggingface/hub"));
        let xdg = [("HOME", "h"), ("XDG_CACHE_HOME", "x")];
        assert_eq!(cache(&xdg), Path::new("x/huggingface/hub"));
        assert_eq!(
            cache(&[("HF_HOME", "f"), ("HOME", "h")]),
            Path::new("f/hub")
        );
        assert_eq!(
            cache(&[("HF_HUB_CACHE", "c"), ("HF_HOME", "f")]),
            Path::new("c")
        );
        assert!(settings(&[]).is_err());
    }

    #[test]
    fn a_token_is_read_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "hf_of_the_file\n").unwrap();
        let token = |variables: &[_]| settings(variables).unwrap().token.unwrap();
        let of_file = token(&[("HF_HOME", home)]);
        assert_eq!(of_file.to_header(), "Bearer hf_of_the_file");
        let both = [("HF_HOME", home), ("HF_TOKEN", " hf_of_the_variable ")];
        assert_eq!(token(&both).to_header(), "Bearer hf_of_the_variable");
        let shown = format!("{:?}", settings(&both).unwrap());
        assert!(!shown.contains("hf_of"), "{shown}");
        let odd = settings(&[("HF_HOME", home), ("HF_TOKEN", "hf_a\nb")]).unwrap_err();
        assert!(!odd.to_string().contains("hf_a"), "{odd}");
    }

    #[test]
    fn switches_and_endpoints() {
        let is_offline = |value| {
            let settings = settings(&[("HF_HOME", "f"), ("HF_HUB_OFFLINE", value)]);
            settings.unwrap().is_offline
        };
        assert!(is_offline("1") && is_offline("true") && is_offline("Yes"));
        assert!(!is_offline("0") && !is_offline("") && !is_offline("no"));
        for wrong in [
            "hub",
            "https://me:secret@hub.example",
            "https://hub.example/?a",
        ] {
            let error = settings(&[("HF_HOME", "f"), ("HF_ENDPOINT", wrong)]).unwrap_err();
            assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
