//! Every fault, seen from outside.

use crate::client::*;
use mailproof_fault_dns::{Fault, Plan, Rule, Server};

fn server(fault: Fault) -> Server {
    Server::start(zone(), Plan::new(1).with(Rule::new(fault))).unwrap()
}

#[test]
fn serv_fail_and_its_kin_say_so_and_nothing_else() {
    for (fault, rcode) in [(Fault::FormErr, 1), (Fault::ServFail, 2), (Fault::NotImp, 4), (Fault::Refused, 5)] {
        let server = server(fault);
        for reply in [
            Udp::new(server.addr()).ask(&Query::txt("a.example").edns(1232)),
            Tcp::new(server.addr()).ask(&Query::txt("a.example").edns(1232)),
        ] {
            let reply = Reply::read(&reply).unwrap();
            assert_eq!((reply.rcode(), reply.answer().len(), reply.opt().is_some()), (rcode, 0, true), "{fault:?}");
        }
        assert_eq!(server.statistics().faults, [(fault.word(), 2)].into());
    }
}
