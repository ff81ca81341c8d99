//! One operation, stopped at every step in every way; then the machine or the process starts again, the operation is
//! repeated as CSI repeats it, and the end state must be right.

use std::time::Duration;

use splitmirror::host::sim::{Call, Cut, Fault, Stop, run};
use splitmirror::report::chain;

use crate::check::{all_or_none, check};
use crate::foreign;
use crate::machine::{Machine, Process, top};

/// Requests inside one call at which power is cut, at most.
const INSIDE_MAX: u64 = 4;
const EIO: i32 = 5;

type EngineResult = splitmirror::engine::Result<()>;

/// An operation.
pub struct Operation {
    /// The machine before it.
    pub before: Machine,
    /// What is done. It is repeated until it succeeds.
    pub act: fn(&mut Process) -> EngineResult,
    /// Notes in the test's knowledge that it was done; the number says how far the volumes' journals were before.
    pub done: fn(&mut Machine, usize),
    /// Whether it ends in the background, and a crash there is to be tried as well.
    pub finish: bool,
}

/// How the machine is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Power is lost; nobody touches the group before us at boot.
    PowerCut,
    /// Power is lost; another tool activates the group at boot.
    PowerCutForeign,
    /// The process dies.
    Kill,
    /// Calls fail.
    Errno,
}

impl Mode {
    /// The faults to try at a call. What happens just before a call is what happens just after the one before it.
    fn faults(self, number: u64, call: &Call) -> Vec<Fault> {
        match self {
            Self::PowerCut | Self::PowerCutForeign => {
                let mut cuts = vec![Cut::After];
                if number == 0 {
                    cuts.push(Cut::Before);
                }
                let inside = call.requests.min(INSIDE_MAX);
                for i in 0..inside {
                    let request = i * call.requests / inside;
                    let (sixteenths, torn) = ((number + i) % 3 * 8, (number + i).is_multiple_of(2));
                    cuts.push(Cut::Inside { request, sixteenths, torn });
                }
                cuts.into_iter().map(|at| Fault::PowerCut { call: number, at }).collect()
            }
            Self::Kill if number == 0 => {
                vec![Fault::Kill { call: 0, done: false }, Fault::Kill { call: 0, done: true }]
            }
            Self::Kill => vec![Fault::Kill { call: number, done: true }],
            Self::Errno => [false, true].map(|done| Fault::Errno { call: number, errno: EIO, done }).to_vec(),
        }
    }
}

impl Operation {
    fn act(&self, process: &mut Process) -> EngineResult {
        (self.act)(process)?;
        if self.finish { process.finish() } else { Ok(()) }
    }

    /// Runs the operation once for every fault. Prints how many there were.
    pub fn crash_everywhere(&self, mode: Mode) {
        let mut rehearsal = self.before.fork(0);
        let mut process = rehearsal.process();
        rehearsal.host.arm(None);
        self.act(&mut process).unwrap_or_else(|error| panic!("without a fault: {}", chain(&error)));
        let calls = rehearsal.host.trace();
        self.conclude(&mut rehearsal, &mut process, "without a fault");
        let mut runs = 0;
        for (number, call) in (0..).zip(&calls) {
            if call.call == "pause" && number % 8 != 0 {
                continue; // waiting is much the same each time
            }
            for fault in mode.faults(number, call) {
                runs += 1;
                let context = format!(
                    "{mode:?}, {fault:?} ({} {}, {} requests)",
                    call.call, call.subject, call.requests
                );
                self.crash_once(mode, fault, number, &context);
            }
        }
        println!("{runs} cut points in {} calls", calls.len());
        assert!(runs > 0, "the operation makes no call");
    }

    fn crash_once(&self, mode: Mode, fault: Fault, seed: u64, context: &str) {
        let mut machine = self.before.fork(seed + 1);
        let host = machine.host.clone();
        host.arm(Some(fault));
        let mut process = machine.process();
        let stopped = run(|| self.act(&mut process));
        host.arm(None);
        match stopped {
            Err(stop) => {
                machine.start_again(stop);
                if seed % 2 == 1 {
                    machine.rest(); // marks that were lost stay lost
                }
                if mode == Mode::PowerCutForeign {
                    foreign::activate(&host);
                    if seed % 3 == 2 {
                        foreign::compare(&host);
                    }
                }
                process = self.recover(&machine, context);
            }
            Ok(Err(error)) if mode != Mode::Errno => panic!("{context}: {}", chain(&error)),
            Ok(_) => {}
        }
        process.insist(self.act).unwrap_or_else(|error| panic!("{context}: repeated: {}", chain(&error)));
        if mode == Mode::Errno {
            // Copies of the metadata that a failed write left behind are written again at the next start.
            machine.start_again(Stop::Killed);
            process = self.recover(&machine, context);
            process.insist(self.act).unwrap_or_else(|error| panic!("{context}: repeated: {}", chain(&error)));
        }
        self.conclude(&mut machine, &mut process, context);
    }

    /// A new process, which starts with recovery if there is a pool.
    fn recover(&self, machine: &Machine, context: &str) -> Process {
        let mut process = machine.process();
        if !machine.pool.is_empty() {
            let engine =
                process.engine().unwrap_or_else(|error| panic!("{context}: open: {}", chain(&error)));
            let failed =
                engine.recover().unwrap_or_else(|error| panic!("{context}: recover: {}", chain(&error)));
            assert!(failed.is_empty(), "{context}: recover: {failed:?}");
            all_or_none(&mut process, context);
        }
        process
    }

    /// The operation was done: everything comes to rest and is right.
    fn conclude(&self, machine: &mut Machine, process: &mut Process, context: &str) {
        let begun = self.before.volumes.keys().next();
        let begun = begun.map_or(0, |name| self.before.host.journal(&top(name)).acknowledged.len());
        (self.done)(machine, begun);
        process.finish().unwrap_or_else(|error| panic!("{context}: finish: {}", chain(&error)));
        check(machine, process, context);
        if machine.volumes.values().any(|volume| volume.active && !volume.snapshots.is_empty()) {
            machine.host.sleep(Duration::from_millis(500));
            machine
                .merge_all(process)
                .unwrap_or_else(|error| panic!("{context}: merge all: {}", chain(&error)));
            check(machine, process, &format!("{context}: all merged"));
        }
    }
}
