//! A service for verification in a program that lives on tokio-uring.
//!
//!     cargo run -p mailproof --features tokio-uring --example tokio_uring [IP:PORT [RESOLVER]]
//!
//! Then `printf '192.0.2.7 mail.example.org ann@example.org %s\r\n' $(wc -c <a.eml) | cat - a.eml | nc -N 127.0.0.1 8892`.

mod line_service;

use std::error::Error;
use std::process::ExitCode;

use mailproof::network::NetworkOptions;
use mailproof::{Engine, Envelope, tokio_uring};

use self::line_service::LineService;

const MESSAGE: &[u8] = b"From: ann@example.org\r\nSubject: hello\r\n\r\nHello.\r\n";

fn main() -> ExitCode {
    let runtime = match tokio_uring::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("{error}");
            println!("this example has nothing to show without io_uring; the engine itself goes on with epoll");
            return ExitCode::SUCCESS;
        }
    };
    match runtime.block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().unwrap_or_else(|| "127.0.0.1:8892".to_owned());
    let resolvers: Vec<String> = arguments.collect();
    let network = match resolvers.is_empty() {
        true => NetworkOptions::from_system()?,
        false => NetworkOptions::from_texts(&resolvers)?,
    };
    let engine = Engine::builder().authserv_id("mx.example.net").network(network).build()?;

    // The engine as a future: on this thread, or with the work done by the engine's.
    let envelope = Envelope::new([192, 0, 2, 7].into(), "mail.example.org", "ann@example.org");
    let here = engine.verify_async(MESSAGE, envelope.clone()).await;
    let there = engine.verify_on_threads(MESSAGE.to_vec(), envelope).await;
    assert_eq!(here, there);
    println!("{}", here.authentication_results);

    // The engine's conversations over this program's streams. Accepting is tokio's.
    let listener = tokio::net::TcpListener::bind(place).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = listener.accept().await?;
        let hosted = tokio_uring::converse(&engine, stream.into_std()?, &LineService)?;
        ::tokio_uring::spawn(async move {
            if let Err(error) = hosted.await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}
