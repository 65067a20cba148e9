//! Whose certificates are believed: Mozilla's list, which is compiled in, or a file that the user
//! names, as behind a proxy that signs with an authority of its own.

use std::path::Path;

use ureq::tls::{PemItem, RootCerts, parse_pem};

use super::error::{HubError, Result};

/// The authorities in a PEM file; without one, Mozilla's.
pub(super) fn roots(file: Option<&Path>) -> Result<RootCerts> {
    let Some(file) = file else {
        return Ok(RootCerts::WebPki);
    };
    let pem = std::fs::read(file)
        .map_err(|error| HubError::io("cannot read the certificates in", file, error))?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let certificates: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
    if certificates.is_empty() {
        return Err(HubError::usage(format!(
            "{} holds no certificate in PEM; correct or unset SSL_CERT_FILE and REQUESTS_CA_BUNDLE",
            file.display()
        )));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        assert!(matches!(roots(None), Ok(RootCerts::WebPki)));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "no PEM").unwrap();
        let error = roots(Some(file.path())).unwrap_err();
        assert_eq!(error.exit_code(), Some(2));
        assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
        let gone = file.path().with_extension("gone");
        let error = roots(Some(&gone)).unwrap_err();
        assert!(error.to_string().contains("certificates"), "{error}");
    }
}
