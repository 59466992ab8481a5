//! The asker's round: what to do next, from hello to the proof.

use super::*;

impl Session {
    pub(super) fn begin_round(&mut self, effects: &mut Effects) {
        self.round = Round::default();
        self.report = Report {
            start: self.report.start,
            ..Report::default()
        };
        self.stage = Stage::Comparing;
        // Before the peer tells its head.
        self.ask(Request::Known, Want::Known, effects);
        self.ask(Request::Summary, Want::Summary(Then::Tell), effects);
    }

    /// Decides what to do next, once each side knows what the other has.
    pub(super) fn advance(&mut self, effects: &mut Effects) {
        if self.local.verifies && self.round.reconciles == 0 {
            return self.lease(For::Reconcile, effects);
        }
        let tallies = (self.ours.tally(), self.theirs.tally());
        self.round.futile = self.round.rows_of == Some(tallies);
        if tallies.0 == tallies.1 || self.round.futile || self.was_compared() {
            return self.finish(effects);
        }
        if !self.round.pulled && self.wants_pull() {
            return self.lease(For::Pull, effects);
        }
        if !self.round.pushed && self.wants_push() {
            // The peer knew its cursor in our log before it is told this.
            return self.ask(Request::Summary, Want::Summary(Then::SendOffer), effects);
        }
        if self.round.moved {
            return self.compare_again(effects);
        }
        match self.may_reconcile() {
            true => self.lease(For::Reconcile, effects),
            false => self.finish(effects),
        }
    }

    pub(super) fn compare_again(&mut self, effects: &mut Effects) {
        self.round.pulled = false;
        self.round.pushed = false;
        self.round.moved = false;
        self.round.compares += 1;
        self.stage = Stage::Comparing;
        self.ask(Request::Known, Want::Known, effects);
        self.ask(Request::Summary, Want::Summary(Then::Tell), effects);
    }

    pub(super) fn our_reader(&self) -> Reader<'_> {
        Reader {
            has: &self.ours,
            from: self.read.map(|cursor| cursor.seq.get()),
        }
    }

    pub(super) fn wants_pull(&self) -> bool {
        self.round.compares <= COMPARES_MAX && self.our_reader().gains(&self.theirs)
    }

    pub(super) fn wants_push(&self) -> bool {
        let reader = Reader {
            has: &self.theirs,
            from: self.read_by_peer.map(|cursor| cursor.seq.get()),
        };
        self.round.compares <= COMPARES_MAX && reader.gains(&self.ours)
    }

    /// Whether to look for what differs entry by entry. Once is enough for two logs that have not
    /// changed since, and what the next round brings anyhow is not worth it.
    pub(super) fn may_reconcile(&self) -> bool {
        let unfinished = self.report.declined || self.round.compares > COMPARES_MAX;
        if unfinished && overlap::is_a_matter_of_time(&self.ours, &self.theirs) {
            return false;
        }
        self.round.reconciles < RECONCILES_MAX
    }

    /// Whether the two are as they were when looking for what differs brought nothing.
    pub(super) fn was_compared(&self) -> bool {
        let (ours, theirs) = (self.ours.tally(), self.theirs.tally());
        let before = self.known_of_peer().and_then(|known| known.compared);
        before.is_some_and(|was| (was.ours, was.theirs) == (ours, theirs))
    }

    pub(super) fn lease(&mut self, what: For, effects: &mut Effects) {
        self.stage = Stage::Leasing(what);
        self.lease_until = Some(self.now + LEASE_MS_MAX);
        effects.push(Effect::Acquire);
    }

    pub(super) fn leased(&mut self, effects: &mut Effects) {
        // A lease may come when it is not waited for any more.
        if self.lease_until.take().is_none() {
            return effects.push(Effect::Release);
        }
        self.leased = true;
        self.go_on(effects);
    }

    /// Does what a lease was waited for.
    pub(super) fn go_on(&mut self, effects: &mut Effects) {
        match (self.role, self.stage) {
            (Role::Answerer, _) => {
                self.ask(Request::Known, Want::KnownNow, effects);
                self.ask(Request::Summary, Want::Summary(Then::Accept), effects);
            }
            // Another session may have brought some of it meanwhile.
            (Role::Asker, Stage::Leasing(For::Pull)) => {
                self.ask(Request::Summary, Want::Summary(Then::Pull), effects);
            }
            (Role::Asker, _) => self.compare_own_rows(effects),
        }
    }

    pub(super) fn release(&mut self, effects: &mut Effects) {
        if self.leased || self.lease_until.take().is_some() {
            self.leased = false;
            effects.push(Effect::Release);
        }
    }

    pub(super) fn pull(&mut self, effects: &mut Effects) {
        let Some(peer) = &self.peer else { return };
        let log_id = peer.log_id;
        let after = self.read.map_or(IngestSeq::ZERO, |cursor| cursor.seq);
        self.stage = Stage::Pulling;
        let reader = self.our_reader();
        let wanted = Wanted {
            cursor: self.read,
            have: reader.have(&self.theirs),
        };
        let whole = reader.is_whole(&self.theirs);
        self.incoming = Some(Inflow::stretch(log_id, after, self.theirs.head, whole));
        effects.push(Effect::Send(Message::Pull(wanted)));
    }

    /// Everything asked for is here and stored.
    pub(super) fn received_all(&mut self, effects: &mut Effects) {
        self.incoming = None;
        match (self.role, self.stage) {
            (Role::Asker, Stage::Pulling) => {
                if let Some(peer) = &self.peer {
                    self.read = Some(Cursor {
                        log_id: peer.log_id,
                        seq: self.theirs.head,
                    });
                }
                self.pulled(effects);
            }
            (Role::Asker, Stage::Mending) => self.fetch_on(effects),
            _ => {
                self.release(effects);
                self.tell_news(effects);
            }
        }
    }

    pub(super) fn pulled(&mut self, effects: &mut Effects) {
        self.round.pulled = true;
        self.round.moved = true;
        self.release(effects);
        self.ask(Request::Summary, Want::Summary(Then::Offer), effects);
    }

    pub(super) fn accepted(&mut self, wanted: Wanted, effects: &mut Effects) {
        self.stage = Stage::Pushing;
        let after = self.from(wanted.cursor);
        self.send_stretch(after, wanted.have, effects);
    }

    /// Everything sent is stored there.
    pub(super) fn sent_all(&mut self, effects: &mut Effects) {
        if let Some(until) = self.out.take().and_then(|out| out.until()) {
            self.news_after = self.news_after.max(until);
        }
        match self.stage {
            Stage::Pushing => {
                self.round.pushed = true;
                self.round.moved = true;
                self.read_by_peer = Some(Cursor {
                    log_id: self.local.log_id,
                    seq: self.ours.head,
                });
                self.advance(effects);
            }
            Stage::Mending => self.mended(effects),
            _ => self.tell_news(effects),
        }
    }

    /// The round is over: compared, or as far as it goes now.
    pub(super) fn finish(&mut self, effects: &mut Effects) {
        self.release(effects);
        self.reconciler = None;
        self.remember(effects);
        effects.push(Effect::Event(Event::Round(self.report.clone())));
        if self.stays() {
            self.lived = true;
            self.stage = Stage::Live;
            self.grew = true;
            return self.tell_news(effects);
        }
        self.close(Reason::DONE, None, effects);
        self.end(Ok(()), effects);
    }

    /// Notes how the two compare, for the status and for the next time.
    pub(super) fn remember(&mut self, effects: &mut Effects) {
        let Some(peer) = &self.peer else { return };
        let compared = Compared {
            ours: self.ours.tally(),
            theirs: self.theirs.tally(),
            their_head: self.theirs.head,
        };
        self.report.compared = Some(compared);
        self.report.behind = overlap::behind(&self.ours, &self.theirs);
        self.report.ahead = overlap::behind(&self.theirs, &self.ours);
        self.agreed = compared.identical().then_some(compared.ours);
        // A copy of this log is about to be another one.
        let copy = peer.log_id == self.local.log_id;
        if !copy && (compared.identical() || self.round.futile) {
            if !compared.identical() {
                // Whatever can come of the peer's log is here.
                let request = Request::Store {
                    peer: peer.device_id.clone(),
                    entries: Vec::new(),
                    claim: Some(Claim {
                        log_id: peer.log_id,
                        after: IngestSeq::ZERO,
                        last: self.theirs.head,
                    }),
                };
                self.wants.push_back(Want::Nothing);
                effects.push(Effect::Ask(request));
            }
            let request = Request::Compared {
                peer: peer.device_id.clone(),
                log_id: peer.log_id,
                compared,
            };
            self.ask(request, Want::Nothing, effects);
        }
        if compared.identical() {
            self.news_after = self.ours.head;
        }
    }
}
