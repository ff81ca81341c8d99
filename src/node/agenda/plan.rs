//! What to do next.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use tokio::time::Instant;

use crate::api::{MirrorSnapshot, MirrorVolume, names};
use crate::ids::{LvName, VgName};
use crate::node::agenda::{Agenda, Job, Key, Kind, Object, ROUND, Status, Write};
use crate::node::decide::{self, Facts, Refused, Verdict, Work, import};
use crate::node::pace::{self, Difference, MERGE_SHOWN};
use crate::node::pools::Objects;
use crate::node::tell::{self, Note};
use crate::node::wish::PoolWish;
use crate::report::Class;
use crate::volume::key;

/// How many pieces of work run at a time: each has a thread, and all wait for the same disks.
const WORKS_MAX: usize = 16;

/// What was decided about an object.
struct Decision {
    key: Key,
    pool: VgName,
    uid: String,
    generation: Option<i64>,
    gone: Option<Vec<Note>>,
    work: Option<Work>,
    status: Option<(Status, Difference, Vec<Note>)>,
    /// The volume that it is, or is of.
    lv: Option<LvName>,
}

impl Agenda {
    /// What to do now. `wall` is the time for conditions.
    pub fn plan(&mut self, now: Instant, wall: &Time) -> Vec<Job> {
        self.wake = None;
        let mut jobs = Vec::new();
        self.wish_for_pools();
        let mut decisions = self.decide_pools(wall);
        let listed = self.pool_objects.is_listed() && self.volumes.is_listed() && self.snapshots.is_listed();
        if listed {
            decisions.extend(self.decide_volumes(wall));
            decisions.extend(self.decide_snapshots(wall));
        }
        let known: BTreeSet<Key> = decisions.iter().map(|decision| decision.key.clone()).collect();
        for decision in decisions {
            self.act(decision, now, &mut jobs);
        }
        if listed {
            self.import(now, wall, &mut jobs);
            let objects = self.objects(wall);
            if objects != self.told {
                self.told = objects.clone();
                jobs.push(Job::Objects(objects));
            }
            self.entries.retain(|key, entry| {
                known.contains(key)
                    || entry.work.is_busy()
                    || entry.write.is_busy()
                    || entry.write.may_begin(now).is_err()
            });
        }
        self.look(now, &mut jobs);
        jobs
    }

    fn facts<'a>(&'a self, wall: &'a Time) -> Facts<'a> {
        Facts {
            node: &self.node,
            pools: &self.pools,
            pool_objects: self.pool_objects.objects(),
            volumes: self.volumes.objects(),
            snapshots: self.snapshots.objects(),
            agent: self.agent.as_ref(),
            now: wall,
        }
    }

    /// What each pool should be. Before the objects are listed nobody's wish can be known to be missing.
    fn wish_for_pools(&mut self) {
        let mut wishes: Vec<PoolWish> = self.file.clone();
        let objects = self.pool_objects.objects().values().map(|object| &object.spec);
        let mut others: Vec<PoolWish> = self.ours.iter().cloned().map(PoolWish::existing).collect();
        others.extend(objects.clone().map(|spec| PoolWish::existing(spec.volume_group.clone())));
        for other in others {
            if !wishes.iter().any(|wish| wish.volume_group == other.volume_group) {
                wishes.push(other);
            }
        }
        let wishes = wishes.into_iter().map(|wish| {
            let said = objects.clone().filter(|spec| spec.volume_group == wish.volume_group);
            said.fold(wish.clone(), PoolWish::and)
        });
        let wishes: Vec<PoolWish> = wishes.collect();
        let listed = self.pool_objects.is_listed();
        for (vg, state) in &mut self.pools {
            let holds = state.seen.as_ref().is_some_and(|seen| !seen.volumes.is_empty());
            if listed && !holds && !wishes.iter().any(|wish| wish.volume_group == *vg) {
                state.wish = None;
            }
        }
        for wish in wishes {
            let state = self.pools.entry(wish.volume_group.clone()).or_default();
            state.wish = Some(wish);
        }
        // One that nobody wishes and that never was open has nothing to be closed.
        self.pools.retain(|_, state| state.wish.is_some() || state.seen.is_some());
    }

    fn decide_pools(&self, wall: &Time) -> Vec<Decision> {
        let facts = self.facts(wall);
        let decide = |(vg, state): (&VgName, &decide::PoolState)| {
            let object = facts.pool_objects.values().find(|object| object.spec.volume_group == *vg);
            let name = object.map_or_else(|| names::pool(&self.node, vg), |object| object.name_any());
            let told = object.and_then(|object| {
                let status = decide::pool::status(object, state, &facts)?;
                let old = object.status.clone().unwrap_or_default();
                let notes = tell::pool(object, &status);
                Some((Status::Pool(Box::new(status.clone())), pace::pool(&old, &status), notes))
            });
            Decision {
                key: Key::new(Kind::Pool, name),
                pool: vg.clone(),
                uid: object.and_then(|object| object.uid()).unwrap_or_default(),
                generation: object.and_then(|object| object.metadata.generation),
                gone: None,
                work: decide::pool::work(state),
                status: told,
                lv: None,
            }
        };
        facts.pools.iter().map(decide).collect()
    }

    /// Why what the object asks for was not done. What it asked for earlier is another matter.
    fn refused(&self, key: &Key, generation: Option<i64>) -> Option<&Refused> {
        let entry = self.entries.get(key).filter(|entry| entry.generation == generation)?;
        entry.refused.as_ref()
    }

    fn decide_volumes(&self, wall: &Time) -> Vec<Decision> {
        let facts = self.facts(wall);
        let decide = |object: &Arc<MirrorVolume>| {
            let key = Key::new(Kind::Volume, object.name_any());
            let refused = self.refused(&key, object.metadata.generation);
            let Verdict { status, work, gone } = decide::volume::decide(object, refused, &facts);
            let status = status.map(|new| {
                let difference = pace::volume(&object.status.clone().unwrap_or_default(), &new);
                let notes = tell::volume(object, &new);
                (Status::Volume(Box::new(new)), difference, notes)
            });
            Decision {
                key,
                pool: object.spec.pool.clone(),
                uid: object.uid().unwrap_or_default(),
                generation: object.metadata.generation,
                gone: gone.then(Vec::new),
                work,
                status,
                lv: object.spec.lv.clone(),
            }
        };
        facts.volumes.values().map(decide).collect()
    }

    fn decide_snapshots(&self, wall: &Time) -> Vec<Decision> {
        let facts = self.facts(wall);
        let decide = |object: &Arc<MirrorSnapshot>| {
            let key = Key::new(Kind::Snapshot, object.name_any());
            let refused = self.refused(&key, object.metadata.generation);
            let Verdict { status, work, gone } = decide::snapshot::decide(object, refused, &facts);
            let volume = facts.volumes.get(&object.spec.volume).map(|volume| &**volume);
            let split = self.entries.get(&key).is_some_and(|entry| entry.split);
            let status = status.map(|new| {
                let difference = pace::snapshot(&object.status.clone().unwrap_or_default(), &new);
                let notes = tell::snapshot(object, volume, &new, split);
                (Status::Snapshot(Box::new(new)), difference, notes)
            });
            Decision {
                key,
                pool: object.spec.pool.clone(),
                uid: object.uid().unwrap_or_default(),
                generation: object.metadata.generation,
                gone: gone.then(|| tell::merged(object, volume)),
                work,
                status,
                lv: volume.and_then(|volume| volume.spec.lv.clone()),
            }
        };
        facts.snapshots.values().map(decide).collect()
    }

    /// Does what was decided, as far as it may be done now.
    fn act(&mut self, decision: Decision, now: Instant, jobs: &mut Vec<Job>) {
        let Decision { key, pool, uid, generation, gone, work, status, lv } = decision;
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.generation != generation {
            entry.generation = generation;
            entry.work.anew();
        }
        if let Some(notes) = gone {
            if !entry.work.is_busy() {
                self.write(key, Write::Remove { uid }, notes, now, now, jobs);
            }
            return;
        }
        if let Some(work) = work {
            self.work(key.clone(), pool.clone(), work, now, jobs);
        }
        let Some((status, difference, notes)) = status else { return };
        let written = self.entries.get(&key).and_then(|entry| entry.written);
        let at = match difference {
            Difference::None => return,
            Difference::Plain => now,
            Difference::Creeping(pause) => written.map_or(now, |written| written + pause),
            Difference::OfMerge => {
                let since = lv.and_then(|lv| self.merging.get(&(pool, lv)));
                since.map_or(now, |since| *since + MERGE_SHOWN)
            }
        };
        self.write(key, Write::Status { uid, status }, notes, at, now, jobs);
    }

    fn work(&mut self, key: Key, pool: VgName, work: Work, now: Instant, jobs: &mut Vec<Job>) {
        let lvs: BTreeSet<_> = work.lvs().into_iter().map(|lv| (pool.clone(), lv)).collect();
        let running = self.entries.values().filter(|entry| entry.work.is_busy()).count();
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.done.as_ref() == Some(&work) {
            // It was done, and is not seen: not again at once, or it would go round in circles.
            tracing::warn!(object = key.name, ?work, "what was done is not seen on the disks");
            entry.done = None;
            entry.work.refused(Class::Internal, now);
        }
        match entry.work.may_begin(now) {
            Err(at) => return self.wake_at(at),
            Ok(()) if running >= WORKS_MAX || !self.busy.is_disjoint(&lvs) => return,
            Ok(()) => {}
        }
        entry.work.begin(now);
        entry.done = None;
        self.busy.extend(lvs);
        jobs.push(Job::Work { key, pool, work });
    }

    fn write(
        &mut self,
        key: Key,
        write: Write,
        notes: Vec<Note>,
        at: Instant,
        now: Instant,
        jobs: &mut Vec<Job>,
    ) {
        if at > now {
            return self.wake_at(Some(at));
        }
        let lane = &mut self.entries.entry(key.clone()).or_default().write;
        if let Err(at) = lane.may_begin(now) {
            return self.wake_at(at);
        }
        lane.begin(now);
        jobs.push(Job::Write { key, write, notes });
    }

    fn import(&mut self, now: Instant, wall: &Time, jobs: &mut Vec<Job>) {
        let facts = self.facts(wall);
        let pools =
            import::pools(&self.file, &facts).into_iter().map(|object| Object::Pool(Box::new(object)));
        let volumes =
            import::volumes(&self.taken, &facts).into_iter().map(|object| Object::Volume(Box::new(object)));
        let snapshots = import::snapshots(&self.taken, &facts)
            .into_iter()
            .map(|object| Object::Snapshot(Box::new(object)));
        for object in pools.chain(volumes).chain(snapshots).collect::<Vec<_>>() {
            self.write(object.key(), Write::Create(object), Vec::new(), now, now, jobs);
        }
    }

    fn objects(&self, wall: &Time) -> Objects {
        let mut objects = Objects::default();
        if self.agent.is_some() {
            let facts = self.facts(wall);
            for (name, object) in facts.snapshots {
                if let Some(id) = decide::snapshot::id_on_disk(object, &facts) {
                    objects.snapshots.insert(name.clone(), (object.spec.pool.clone(), id));
                }
            }
        }
        for object in self.volumes.objects().values() {
            let (name, spec) = (object.name_any(), &object.spec);
            if spec.delete {
                objects.deleting.insert(name.clone());
            }
            let called = spec.name.as_deref().map(names::of);
            let Some(id) = spec.lv.clone().or_else(|| spec.name.as_deref().map(key::of)) else { continue };
            if called.as_ref() == Some(&name) || names::found_volume(&self.node, &spec.pool, &id) == name {
                objects.named.entry((spec.pool.clone(), id)).or_insert(name);
            }
        }
        objects
    }

    fn look(&mut self, now: Instant, jobs: &mut Vec<Job>) {
        let mut wakes = Vec::new();
        for (pool, state) in &self.pools {
            if state.seen.is_none() {
                continue;
            }
            let looking = self.looking.entry(pool.clone()).or_default();
            let next = *looking.next.get_or_insert(now + ROUND);
            if next <= now {
                looking.wanted.add(crate::node::look::Focus::all());
                looking.next = Some(now + ROUND);
            }
            wakes.extend(looking.next);
            if looking.busy || looking.wanted.is_empty() {
                continue;
            }
            looking.busy = true;
            looking.touched.clear();
            let focus = std::mem::take(&mut looking.wanted);
            jobs.push(Job::Look { pool: pool.clone(), focus, before: state.seen.clone() });
        }
        wakes.into_iter().for_each(|at| self.wake_at(Some(at)));
    }

    fn wake_at(&mut self, at: Option<Instant>) {
        self.wake = match (self.wake, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}
