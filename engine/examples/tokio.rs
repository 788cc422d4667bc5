//! Verifies messages on tokio, all of them at a time on one thread.
//!
//!     cargo run -p mailproof --example tokio IP HELO MAIL-FROM FILE...

use std::error::Error;

use mailproof::{Engine, Envelope};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(ip), Some(helo), Some(mail_from)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("IP HELO MAIL-FROM FILE...".into());
    };
    let envelope = Envelope::new(ip.parse()?, helo, mail_from);
    let engine = Engine::builder().build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let tasks: Vec<_> = arguments
        .map(|file| {
            let (engine, envelope) = (engine.clone(), envelope.clone());
            runtime.spawn(async move {
                let message = std::fs::read(&file)?;
                let verdict = engine.verify_async(&message, envelope).await;
                Ok::<_, std::io::Error>(format!("{file}: {}", verdict.authentication_results))
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            println!("{}", task.await??);
        }
        Ok(())
    })
}
