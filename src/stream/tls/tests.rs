use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

/// Who signs.
pub fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
pub fn signed(by: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.signed_by(&key, by).unwrap();
    (cert.pem(), key.serialize_pem())
}

pub fn write(files: &Files, (cert, key): &(String, String)) {
    fs::write(&files.cert, cert).unwrap();
    fs::write(&files.key, key).unwrap();
}

pub fn files(dir: &Path) -> Files {
    Files {
        cert: dir.join("tls.crt"),
        key: dir.join("tls.key"),
        client_ca: None,
    }
}

/// A client that trusts this authority and shows this certificate.
pub fn connector(
    trusts: &CertifiedIssuer<'static, KeyPair>,
    shows: Option<&(String, String)>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusts.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Speaks with the server as such a client.
async fn speak(
    acceptor: &Acceptor,
    trusts: &CertifiedIssuer<'static, KeyPair>,
    shows: Option<&(String, String)>,
) -> std::io::Result<()> {
    let connector = connector(trusts, shows);
    let (client, server) = duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let client = async {
        let mut client = connector.connect(name, client).await?;
        let mut heard = [0; 5];
        client.read_exact(&mut heard).await.map(drop)
    };
    let server = async {
        let mut server = acceptor.current().await.accept(server).await?;
        server.write_all(b"hello").await?;
        server.flush().await
    };
    tokio::try_join!(client, server).map(drop)
}

#[tokio::test(start_paused = true)]
async fn files_that_change_are_read_again_and_bad_ones_are_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let (first, second) = (authority(), authority());
    write(&files, &signed(&first));
    let acceptor = Acceptor::new(files.clone()).await.unwrap();
    speak(&acceptor, &first, None).await.unwrap();
    assert!(speak(&acceptor, &second, None).await.is_err());

    fs::write(&files.cert, "half a certif").unwrap();
    tokio::time::advance(LOOK).await;
    speak(&acceptor, &first, None).await.unwrap();

    write(&files, &signed(&second));
    tokio::time::advance(LOOK).await;
    speak(&acceptor, &second, None).await.unwrap();
}

#[tokio::test]
async fn a_file_that_hangs_keeps_nobody_outside() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let authority = authority();
    write(&files, &signed(&authority));
    let acceptor = Acceptor::new(files.clone()).await.unwrap();
    // Who opens it waits for somebody who writes.
    fs::remove_file(&files.cert).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &files.cert,
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .unwrap();
    locked(&acceptor.current).looked -= LOOK;
    for _ in 0..3 {
        speak(&acceptor, &authority, None).await.unwrap();
    }
    assert!(locked(&acceptor.current).looking, "it was looked at");
    let written = tokio::task::spawn_blocking(move || fs::write(&files.cert, "no PEM"));
    written.await.unwrap().unwrap();
}

#[tokio::test]
async fn clients_need_a_certificate_where_there_is_a_client_ca() {
    let dir = tempfile::tempdir().unwrap();
    let (server, clients) = (authority(), authority());
    let files = Files {
        client_ca: Some(dir.path().join("clients.crt")),
        ..files(dir.path())
    };
    write(&files, &signed(&server));
    fs::write(files.client_ca.as_ref().unwrap(), clients.pem()).unwrap();
    let acceptor = Acceptor::new(files).await.unwrap();
    speak(&acceptor, &server, Some(&signed(&clients)))
        .await
        .unwrap();
    assert!(
        speak(&acceptor, &server, Some(&signed(&server)))
            .await
            .is_err()
    );
    assert!(speak(&acceptor, &server, None).await.is_err());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let refused = |files: Files| async move { Acceptor::new(files).await.err().unwrap().chain() };
    assert!(refused(files.clone()).await.contains("tls.crt"));
    let (cert, _) = signed(&authority());
    let (_, key) = signed(&authority());
    write(&files, &(cert, key));
    assert!(refused(files.clone()).await.contains("with the key"));
    fs::write(&files.cert, "no PEM").unwrap();
    assert!(refused(files).await.contains("there is none"));
}
