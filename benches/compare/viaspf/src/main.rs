// SPDX-License-Identifier: GPL-3.0-or-later
//! viaspf, asked over standard input: lines `COUNT ADDRESS FILE`, answered by `SPF - - NANOSECONDS`.
//!
//! It links viaspf, which is under the GPL, and is therefore under the GPL itself (version 3 or later), unlike everything
//! else of this repository. It is a separate program that only the comparison starts; nothing links it.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;
use std::{env, fs, io};

use async_trait::async_trait;
use viaspf::lookup::{Lookup, LookupError, LookupResult, Name};
use viaspf::{Config, DomainName, Sender};

/// Names with their TXT records; nothing else is there.
struct Zone(HashMap<Name, Vec<String>>);

#[async_trait]
impl Lookup for Zone {
    async fn lookup_a<'lookup, 'a>(&'lookup self, _: &'a Name) -> LookupResult<Vec<Ipv4Addr>> {
        Err(LookupError::NoRecords)
    }

    async fn lookup_aaaa<'lookup, 'a>(&'lookup self, _: &'a Name) -> LookupResult<Vec<Ipv6Addr>> {
        Err(LookupError::NoRecords)
    }

    async fn lookup_mx<'lookup, 'a>(&'lookup self, _: &'a Name) -> LookupResult<Vec<Name>> {
        Err(LookupError::NoRecords)
    }

    async fn lookup_txt<'lookup, 'a>(&'lookup self, name: &'a Name) -> LookupResult<Vec<String>> {
        self.0.get(name).cloned().ok_or(LookupError::NoRecords)
    }

    async fn lookup_ptr<'lookup>(&'lookup self, _: IpAddr) -> LookupResult<Vec<Name>> {
        Err(LookupError::NoRecords)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let world = fs::read_to_string(env::args().nth(1).ok_or("it wants the file of the DNS")?)?;
    let value =
        |key: &str| world.lines().find_map(|line| line.split_once(' ').filter(|it| it.0 == key)).map_or("", |it| it.1);
    let (helo, mail_from): (DomainName, Sender) = (value("helo").parse()?, value("mail_from").parse()?);
    let texts = world.lines().filter_map(|line| line.strip_prefix("txt ")?.split_once(' '));
    let zone = Zone(
        texts
            .map(|(name, text)| Ok((Name::new(name)?, vec![text.to_owned()])))
            .collect::<Result<_, viaspf::lookup::ParseNameError>>()?,
    );
    let config = Config::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let count: u32 = words.next().unwrap_or_default().parse()?;
        let ip: IpAddr = words.next().unwrap_or_default().parse()?;
        let (result, took) = runtime.block_on(async {
            let (mut result, started) = (None, Instant::now());
            for _ in 0..count {
                result = Some(viaspf::evaluate_sender(&zone, &config, ip, &mail_from, Some(&helo)).await.spf_result);
            }
            (result, started.elapsed())
        });
        println!("{} - - {}", result.ok_or("nothing was asked")?, took.as_nanos());
    }
    Ok(())
}
