//! Encrypted connections, and clients who show a certificate. The certificates are made here, for this test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use niwaki::settings::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::*;

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `localhost` and its key.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

/// Files for the settings.
fn files(folder: &Path, certificate: &str, key: &str, mode: u32) -> Tls {
    let path = |name: &str| folder.join(name);
    fs::write(path("tls.pem"), certificate).unwrap();
    fs::write(path("tls.key"), key).unwrap();
    fs::set_permissions(path("tls.key"), Permissions::from_mode(mode)).unwrap();
    Tls { certificate: Some(path("tls.pem")), key: Some(path("tls.key")), client_ca: None }
}

fn settings(folder: &Path, tls: Tls) -> Settings {
    let mut settings = Settings { data: folder.join("data"), tls, ..Settings::default() };
    settings.jobs.workers = 0;
    settings
}

async fn ask(address: &str, config: ClientTlsConfig) -> Result<(), String> {
    let port = address.rsplit(':').next().unwrap();
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap().tls_config(config).unwrap();
    let asked = async {
        let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
        let mut info = ServerServiceClient::new(channel);
        info.get_server_info(v1::GetServerInfoRequest {}).await.map(|_| ()).map_err(|error| error.to_string())
    };
    timeout(LIMIT, asked).await.expect("an answer")
}

/// Starts a server to which the channel of the helper cannot speak.
async fn start(settings: Settings) -> (String, oneshot::Sender<()>, JoinHandle<Result<(), ServeError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let config = ServerConfig { settings, job_program: "/bin/true".into() };
    #[allow(clippy::disallowed_methods)] // Each test waits for it.
    let served = tokio::spawn(serve(listener, config, async {
        let _ = stopped.await;
    }));
    (address, stop, served)
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_to_those_who_trust_its_authority_only() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, foreign) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign();
    let (address, stop, served) = start(settings(folder.path(), files(folder.path(), &certificate, &key, 0o600))).await;
    let trusting =
        |authority: &Authority| ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    ask(&address, trusting(&ours)).await.unwrap();
    assert!(ask(&address, trusting(&foreign)).await.is_err());
    let plain = Channel::from_shared(format!("http://{address}")).unwrap().connect().await;
    if let Ok(channel) = plain {
        let answer = ServerServiceClient::new(channel).get_server_info(v1::GetServerInfoRequest {}).await;
        assert!(answer.is_err(), "nothing is said in plain text");
    }
    stop.send(()).unwrap();
    timeout(LIMIT, served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_lets_nobody_in_without_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, clients) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.sign();
    let mut tls = files(folder.path(), &certificate, &key, 0o640);
    fs::write(folder.path().join("clients.pem"), clients.pem()).unwrap();
    tls.client_ca = Some(folder.path().join("clients.pem"));
    let (address, stop, served) = start(settings(folder.path(), tls)).await;
    let trusting = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ours.pem()));
    let with = |(certificate, key): (String, String)| trusting.clone().identity(Identity::from_pem(certificate, key));
    ask(&address, with(clients.sign())).await.unwrap();
    assert!(ask(&address, trusting.clone()).await.is_err());
    assert!(ask(&address, with(ours.sign())).await.is_err());
    stop.send(()).unwrap();
    timeout(LIMIT, served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn settings_that_would_let_somebody_in_start_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = Authority::new().sign();
    let good = files(folder.path(), &certificate, &key, 0o600);
    let keys = folder.path().join("keys.toml");
    fs::write(&keys, "").unwrap();
    fs::set_permissions(&keys, Permissions::from_mode(0o644)).unwrap();
    let plain = settings(folder.path(), Tls::default());
    let mut open_keys = plain.clone();
    open_keys.auth.keys = Some(keys);
    let readable = folder.path().join("readable");
    fs::create_dir(&readable).unwrap();
    for (settings, word) in [
        (Settings { listen: "0.0.0.0:0".parse().unwrap(), ..plain.clone() }, "auth.keys"),
        (Settings { listen: "[::]:0".parse().unwrap(), ..plain.clone() }, "auth.keys"),
        (open_keys, "chmod 600"),
        (Settings { tls: files(&readable, &certificate, &key, 0o644), ..plain.clone() }, "chmod 600"),
        (Settings { tls: Tls { key: None, ..good.clone() }, ..plain.clone() }, "belong together"),
        (Settings { tls: Tls { client_ca: good.certificate.clone(), ..Tls::default() }, ..plain.clone() }, "needs"),
        (Settings { tls: files(folder.path(), "no certificate", "no key", 0o600), ..plain.clone() }, "tls."),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = ServerConfig { settings, job_program: "/bin/true".into() };
        let error =
            timeout(LIMIT, serve(listener, config, std::future::pending())).await.expect("it ends").unwrap_err();
        assert!(matches!(error, ServeError::Unsafe(_)), "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was made");
}
