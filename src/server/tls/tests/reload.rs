use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

use super::stage::{Authority, Caller, Folder, Pair, dns, expired, is_alone, settings};
use crate::server::testing::{echo, get};
use crate::server::tls::{Certificates, Changed, TlsError};
use crate::server::{Server, TlsSettings, bind};

/// A server, and the handle on what it shows.
struct Shop {
    address: std::net::SocketAddr,
    certificates: Arc<Certificates>,
    _done: JoinHandle<()>,
}

impl Shop {
    fn opens(tls: TlsSettings) -> Self {
        let settings = settings(tls);
        let bound = bind(&settings).unwrap();
        let address = bound[0].local_addr().unwrap();
        let certificates = bound[0].certificates().unwrap();
        let stop = CancellationToken::new();
        let done = tokio::spawn(Server::new(settings).serve(bound, echo, stop));
        Self { address, certificates, _done: done }
    }

    async fn connect(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(self.address).await.unwrap()
    }

    /// Whether this is what a new caller is shown.
    async fn shows(&self, caller: &Caller, pair: &Pair) -> bool {
        let stream = caller.clone().forgets().shakes(self.connect().await).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        shown == CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()
    }
}

#[tokio::test]
async fn a_new_pair_counts_for_the_next_handshake_and_old_connections_go_on() {
    let folder = Folder::new();
    let (first, second) = (folder.ours.localhost(), folder.ours.localhost());
    folder.put(&first);
    let shop = Shop::opens(folder.tls());
    let caller = folder.caller();
    assert!(shop.shows(&caller, &first).await);
    assert_eq!(shop.certificates.reload().await.unwrap(), Changed::No);
    let mut old = caller.shakes(shop.connect().await).await.unwrap();
    get(&mut old, "/a").await;

    folder.put(&second);
    // Nobody has looked yet.
    assert!(shop.shows(&caller, &first).await);
    assert_eq!(shop.certificates.reload().await.unwrap(), Changed::Yes);
    assert!(shop.shows(&caller, &second).await);
    assert_eq!(shop.certificates.reload().await.unwrap(), Changed::No);
    get(&mut old, "/b").await;
}

#[tokio::test]
async fn a_half_written_pair_changes_nothing_until_it_is_whole() {
    let folder = Folder::new();
    let (first, second) = (folder.ours.localhost(), folder.ours.localhost());
    folder.put(&first);
    let shop = Shop::opens(folder.tls());
    let caller = folder.caller();

    folder.write("cert.pem", &second.cert);
    let error = shop.certificates.reload().await.unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    assert!(shop.shows(&caller, &first).await);

    for broken in ["", &second.key[..second.key.len() / 2], "-----BEGIN PRIVATE KEY-----"] {
        folder.write("key.pem", broken);
        shop.certificates.reload().await.unwrap_err();
        assert!(shop.shows(&caller, &first).await);
    }
    fs::remove_file(folder.path("key.pem")).unwrap();
    shop.certificates.reload().await.unwrap_err();
    assert!(shop.shows(&caller, &first).await);

    folder.write("key.pem", &second.key);
    assert_eq!(shop.certificates.reload().await.unwrap(), Changed::Yes);
    assert!(shop.shows(&caller, &second).await);
}

#[tokio::test]
async fn an_authority_that_is_gone_lets_nobody_in_any_more_also_not_by_an_old_session() {
    for is_optional in [false, true] {
        let folder = Folder::new();
        let next = Authority::new();
        let shop = Shop::opens(TlsSettings { client_optional: is_optional, ..folder.mutual() });
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            folder.write("ca.pem", &folder.theirs.pem());
            shop.certificates.reload().await.unwrap();
            let pair = folder.theirs.caller(vec![dns("a")]);
            let caller = folder.caller().shows(&pair).speaks(version, &folder);
            // Keeps whatever session it is given.
            caller.asks(shop.connect().await).await.unwrap();
            caller.asks(shop.connect().await).await.unwrap();

            // Both are believed for a while, and then only the next.
            folder.write("ca.pem", &(folder.theirs.pem() + &next.pem()));
            assert_eq!(shop.certificates.reload().await.unwrap(), Changed::Yes);
            caller.asks(shop.connect().await).await.unwrap();
            folder.write("ca.pem", &next.pem());
            assert_eq!(shop.certificates.reload().await.unwrap(), Changed::Yes);
            caller.asks(shop.connect().await).await.unwrap_err();
            let other = next.caller(vec![dns("a")]);
            folder.caller().shows(&other).asks(shop.connect().await).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_session_does_not_outlive_the_pair_of_its_time() {
    let folder = Folder::new();
    let shop = Shop::opens(folder.tls());
    let caller = folder.caller();
    let mut kinds = Vec::new();
    for round in 0..3 {
        if round == 2 {
            folder.put(&folder.ours.localhost());
            shop.certificates.reload().await.unwrap();
        }
        let mut stream = caller.shakes(shop.connect().await).await.unwrap();
        get(&mut stream, "/a").await;
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Full]);
}

fn alone(tls: &TlsSettings) -> Arc<Certificates> {
    Arc::new(Certificates::open("here".to_owned(), tls).unwrap())
}

#[tokio::test(start_paused = true)]
async fn files_that_change_are_noticed_within_a_minute_without_a_word() {
    let folder = Folder::new();
    let certificates = alone(&folder.tls());
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(certificates.clone().keep(stop.clone()));
    let before = certificates.config();
    tokio::time::sleep(Duration::from_secs(150)).await;
    assert!(Arc::ptr_eq(&before, &certificates.config()));
    // Once the loop's next look is 30 s away.
    let (key, pair) =
        (fs::read_to_string(folder.path("key.pem")).unwrap(), folder.ours.signs(expired));
    folder.write("cert.pem", &pair.cert);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(Arc::ptr_eq(&before, &certificates.config()));
    assert_eq!(fs::read_to_string(folder.path("key.pem")).unwrap(), key);
    folder.write("key.pem", &pair.key);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(!Arc::ptr_eq(&before, &certificates.config()));
    assert!(certificates.expires() < std::time::SystemTime::now());
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_certificate_can_be_read() {
    let folder = Folder::new();
    let pair = folder.ours.signs(|params| params.not_after = rcgen::date_time_ymd(2040, 1, 2));
    folder.put(&pair);
    let seconds = alone(&folder.tls()).expires().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(seconds.as_secs(), 2_209_075_200);
}

/// What the log says on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// In a process of its own: which events are of interest is decided once, by whichever thread
/// comes first.
#[tokio::test(start_paused = true)]
async fn the_log_says_each_trouble_once_and_the_end_once_a_day() {
    if !is_alone("reload::the_log_says_each_trouble_once_and_the_end_once_a_day") {
        return;
    }
    let folder = Folder::new();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let certificates = alone(&folder.tls());
    // On this thread: that is the one whose log is kept.
    let look = |asked| certificates.look_now(asked);
    assert_eq!(look(false).unwrap(), Changed::No);
    assert_eq!(log.take(), "");

    let pair = folder.ours.signs(expired);
    folder.write("cert.pem", &pair.cert);
    for expected in [1, 0, 0] {
        look(false).unwrap_err();
        assert_eq!(log.take().matches("WARN").count(), expected);
    }
    // An operator who asks is told again.
    look(true).unwrap_err();
    let said = log.take();
    assert!(said.contains("keeping the certificate in use") && said.contains("here"), "{said}");
    // Another trouble is another word.
    folder.write("key.pem", "");
    look(false).unwrap_err();
    assert!(log.take().contains("holds no private key"));

    folder.put(&pair);
    assert_eq!(look(false).unwrap(), Changed::Yes);
    let said = log.take();
    assert!(said.contains("has expired") && said.contains("certificate read again"), "{said}");
    assert!(!said.contains(pair.key.lines().nth(1).unwrap()));
    for (hours, expected) in [(0, 0), (23, 0), (2, 1), (23, 0), (2, 1)] {
        tokio::time::advance(Duration::from_secs(hours * 3600)).await;
        look(false).unwrap();
        assert_eq!(log.take().matches("has expired").count(), expected);
    }
}
