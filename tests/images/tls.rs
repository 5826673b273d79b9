//! TLS with the real registry: authorities, client certificates and `skip_verify`, per host.

use std::{fs, path::Path};

use corten::error::{Kind, Sentinel};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::{Served, node::Node};

/// Who signs.
pub fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.crt` and `NAME.key`.
pub fn sign(by: &CertifiedIssuer<'static, KeyPair>, folder: &Path, name: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.signed_by(&key, by).unwrap();
    fs::write(folder.join(format!("{name}.crt")), cert.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn a_real_registry_speaks_tls_with_whom_it_knows() {
    let plain = Served::start(false).await;
    plain.push_image("1").await;
    let (ours, other) = (authority(), authority());
    let folder = plain.root.path();
    sign(&ours, folder, "server");
    fs::write(folder.join("ca.crt"), ours.pem()).unwrap();
    fs::write(folder.join("other.crt"), other.pem()).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let tls = |more: &str| {
        format!(
            ", tls: {{certificate: '{}', key: '{}'{more}}}",
            path("server.crt"),
            path("server.key")
        )
    };
    let served = plain.again(&tls("")).await;
    let mutual = plain
        .again(&tls(&format!(", clientcas: ['{}']", path("ca.crt"))))
        .await;
    let node = Node::new();
    sign(&ours, node.root.path(), "client");
    let client = |name: &str| {
        node.root
            .path()
            .join(format!("client.{name}"))
            .display()
            .to_string()
    };
    let pull = async |server: &Served, rest: &str| {
        let port = server.address.rsplit(':').next().unwrap();
        node.hosts(
            "reg.test",
            &format!("server = \"https://localhost:{port}\"\n{rest}"),
        );
        let pulled = node.pull("reg.test/app:1").await;
        node.images.remove("reg.test/app:1").await.unwrap();
        pulled
            .map(drop)
            .map_err(|error| (error.kind(), error.chain()))
    };
    let ca = format!("ca = \"{}\"\n", path("ca.crt"));
    let shown = format!(
        "{ca}client = [[\"{}\", \"{}\"]]\n",
        client("crt"),
        client("key")
    );
    pull(&served, &ca).await.unwrap();
    let log = served.log();
    let of_blobs: Vec<_> = log
        .lines()
        .filter(|line| line.contains("/blobs/"))
        .collect();
    assert!(
        of_blobs.iter().all(|line| line.contains("HTTP/2.0")) && !of_blobs.is_empty(),
        "{log}"
    );
    // One connection for all of them.
    let clients: std::collections::BTreeSet<_> = of_blobs
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(clients.len(), 1, "{log}");
    pull(&served, "skip_verify = true\n").await.unwrap();
    pull(&mutual, &shown).await.unwrap();
    let unavailable = Kind::Sentinel(Sentinel::RegistryUnavailable);
    for refused in [String::new(), format!("ca = \"{}\"\n", path("other.crt"))] {
        let (kind, text) = pull(&served, &refused).await.unwrap_err();
        assert_eq!(kind, unavailable);
        assert!(text.contains("certificate"), "{text}");
    }
    let (kind, text) = pull(&mutual, &ca).await.unwrap_err();
    assert_eq!(kind, unavailable);
    assert!(text.contains("reach localhost"), "{text}");
}
