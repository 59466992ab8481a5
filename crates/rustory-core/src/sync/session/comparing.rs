//! Finding what differs entry by entry, and mending it on both sides.

use super::*;

impl Session {
    pub(super) fn compare_own_rows(&mut self, effects: &mut Effects) {
        self.stage = Stage::Reconciling;
        self.steps = 0;
        self.round.rows_of = Some((self.ours.tally(), self.theirs.tally()));
        self.round.reconciles += 1;
        self.report.reconciled += 1;
        self.differences = Step::default();
        let origins = self.origins_to_compare();
        let count = origins.as_ref().map_or(self.ours.origins.len(), Vec::len);
        effects.push(Effect::Event(Event::Reconciling { origins: count }));
        self.ask(Request::Items { origins }, Want::Items, effects);
    }

    /// `None`: all of them.
    pub(super) fn origins_to_compare(&self) -> Option<Vec<String>> {
        let differing = overlap::differing(&self.ours, &self.theirs);
        (!self.local.verifies && differing.len() <= ORIGINS_MAX).then_some(differing)
    }

    pub(super) fn rows(&mut self, items: Items, effects: &mut Effects) -> Result<(), SessionError> {
        if !items.damaged.is_empty() {
            let origins = items.damaged.clone();
            effects.push(Effect::Event(Event::Damaged { origins }));
        }
        self.damaged = items.damaged;
        if self.role == Role::Answerer {
            self.reconciler = Some(Reconciler::answering(items.set));
            let asked = Reconcile {
                origins: None,
                first: true,
                step: self.differences.ask.take().unwrap_or_default(),
                damaged: None,
            };
            let damaged = !self.damaged.is_empty();
            return self.answer_step(&asked, Some(damaged), effects);
        }
        let (reconciler, step) = Reconciler::ask(items.set);
        self.reconciler = Some(reconciler);
        effects.push(Effect::Send(Message::Reconcile(Reconcile {
            origins: self.origins_to_compare(),
            first: true,
            step,
            damaged: None,
        })));
        Ok(())
    }

    pub(super) fn learn(
        &mut self,
        step: &Reconcile,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        if let Some(damaged) = step.damaged {
            self.they_are_damaged = damaged;
        }
        let Some(reconciler) = &mut self.reconciler else {
            return Ok(());
        };
        self.steps += 1;
        if self.steps > STEPS_MAX {
            let text = "a comparison without end".to_owned();
            return Err(SessionError::Fault(text));
        }
        let learned = reconciler
            .learn(&step.step)
            .map_err(|err| SessionError::Fault(err.to_string()))?;
        self.differences.have.extend(learned.have);
        self.differences.need.extend(learned.need);
        let found = self.differences.have.len() + self.differences.need.len();
        match learned.ask.filter(|_| found < DIFFERENCES_MAX) {
            Some(step) => effects.push(Effect::Send(Message::Reconcile(Reconcile {
                origins: None,
                first: false,
                step,
                damaged: None,
            }))),
            None => self.mend(effects),
        }
        Ok(())
    }

    /// Fetches what is missing here and sends what is missing there, at the same time.
    pub(super) fn mend(&mut self, effects: &mut Effects) {
        self.stage = Stage::Mending;
        self.reconciler = None;
        let (push, mut fetch) = self.share_out();
        fetch.sort_unstable();
        fetch.dedup();
        self.differences.need = fetch;
        if !push.is_empty() {
            let mends = self.they_are_damaged && self.damaged.is_empty();
            self.out = Some(Outflow::ids(push, mends));
            self.read_on(effects);
        }
        self.fetch_on(effects);
    }

    /// Which of the differences to send and which to fetch.
    ///
    /// An id under which the two have different entries is exchanged both ways, and each side keeps
    /// the same one of the two; but a side whose disk changed its rows takes the other's.
    pub(super) fn share_out(&mut self) -> (Vec<EntryId>, Vec<Difference>) {
        let Step { have, need, .. } = std::mem::take(&mut self.differences);
        let ids = |list: &[Difference]| -> Vec<EntryId> {
            let mut ids: Vec<EntryId> = list.iter().map(|item| item.id).collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let (have_ids, need_ids) = (ids(&have), ids(&need));
        let we_are = !self.damaged.is_empty();
        let keeps = |id: &EntryId, other: &[EntryId], trusted: bool| {
            trusted || other.binary_search(id).is_err()
        };
        let they_are = self.they_are_damaged;
        let both = we_are == they_are;
        let push = have_ids
            .iter()
            .filter(|id| keeps(id, &need_ids, both || they_are))
            .copied()
            .collect();
        let fetch = need
            .into_iter()
            .filter(|item| keeps(&item.id, &have_ids, both || we_are))
            .collect();
        (push, fetch)
    }

    pub(super) fn fetch_on(&mut self, effects: &mut Effects) {
        if self.incoming.is_some() {
            return;
        }
        let left = self.differences.need.len();
        if left == 0 {
            return self.mended(effects);
        }
        let chunk = left.min(crate::limits::FETCH_IDS_MAX);
        let ids: Vec<EntryId> = self
            .differences
            .need
            .drain(..chunk)
            .map(|item| item.id)
            .collect();
        self.incoming = Some(Inflow::ids(ids.clone()));
        effects.push(Effect::Send(Message::Fetch(Fetch { ids })));
    }

    /// One half of mending is over; both?
    pub(super) fn mended(&mut self, effects: &mut Effects) {
        if self.out.is_some() || self.incoming.is_some() || !self.differences.need.is_empty() {
            return;
        }
        self.release(effects);
        self.recount(effects);
        self.compare_again(effects);
    }

    /// Counts origins anew whose rows are not what was counted.
    pub(super) fn recount(&mut self, effects: &mut Effects) {
        let recount = std::mem::take(&mut self.damaged);
        if !recount.is_empty() {
            let entries = Vec::new();
            let request = Request::Repair { entries, recount };
            self.ask(request, Want::Nothing, effects);
        }
    }
}
