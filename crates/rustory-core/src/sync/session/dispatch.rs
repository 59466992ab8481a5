//! What the peer says, what the log says, and who has to hear it.

use super::*;

impl Session {
    pub(super) fn message(
        &mut self,
        message: Message,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        if let Message::Close(close) = message {
            return self.closed(close, effects);
        }
        if self.peer.is_none() {
            return match message {
                Message::Hello(hello) => self.hello(hello, effects),
                Message::Wait => Ok(()),
                other => Err(unexpected(&other)),
            };
        }
        match (self.role, message) {
            (_, Message::Wait) => Ok(()),
            (_, Message::Batch(batch)) => self.batch(batch, effects),
            (_, Message::Ack(ack)) => self.acknowledged(ack, effects),
            (_, Message::News(news)) => self.news(news, effects),
            (_, Message::Heard(heard)) => {
                self.heard(heard, effects);
                Ok(())
            }
            (Role::Asker, Message::Origins(theirs)) if self.waits_at(Stage::Comparing) => {
                self.theirs = theirs;
                self.advance(effects);
                Ok(())
            }
            (Role::Asker, Message::Standing(theirs)) if self.waits_at(Stage::Comparing) => {
                self.same(theirs, effects)
            }
            (Role::Asker, Message::Accept(wanted)) if self.waits_at(Stage::Offering) => {
                self.accepted(wanted, effects);
                Ok(())
            }
            (Role::Asker, Message::Later) if self.waits_at(Stage::Offering) => {
                self.report.declined = true;
                self.round.pushed = true;
                self.advance(effects);
                Ok(())
            }
            (Role::Asker, Message::Reconcile(step)) if self.waits_at(Stage::Reconciling) => {
                self.learn(&step, effects)
            }
            (Role::Answerer, message) => self.asked(message, effects),
            (_, other) => Err(unexpected(&other)),
        }
    }

    /// Whether the peer's answer to what was asked at this stage is all that is waited for.
    pub(super) fn waits_at(&self, stage: Stage) -> bool {
        self.stage == stage && !self.is_answering()
    }

    /// Whether a question to the log, or for a lease, has to be answered before the next message
    /// of the peer makes sense.
    pub(super) fn is_answering(&self) -> bool {
        let first = |want: &Want| {
            matches!(
                want,
                Want::Known | Want::KnownNow | Want::Summary(_) | Want::Items
            )
        };
        self.lease_until.is_some() || self.wants.iter().any(first)
    }

    /// The peer's sum is the one it was told.
    pub(super) fn same(
        &mut self,
        theirs: Standing,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        if theirs.tally != self.ours.tally() {
            return Err(unexpected(&Message::Standing(theirs)));
        }
        self.theirs = Summary {
            head: theirs.head,
            origins: self.ours.origins.clone(),
        };
        self.advance(effects);
        Ok(())
    }

    pub(super) fn hello(
        &mut self,
        hello: Hello,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        if !hello.fits() {
            let what = "a device without an id, or with a text beyond the limits";
            return Err(SessionError::Fault(what.to_owned()));
        }
        if hello.protocol < PROTOCOL {
            self.close(Reason::PROTOCOL, None, effects);
            let theirs = hello.protocol;
            return Err(SessionError::OtherProtocol { theirs });
        }
        if let (Some(ours), Some(theirs)) = (&self.local.user_id, &hello.user_id)
            && ours != theirs
        {
            let (ours, theirs) = (ours.clone(), theirs.clone());
            self.close(Reason::USER, Some(&ours), effects);
            return Err(SessionError::OtherUser { ours, theirs });
        }
        effects.push(Effect::Event(Event::Met(hello.clone())));
        self.theirs.head = hello.head;
        let same_log = hello.log_id == self.local.log_id;
        let same_place = hello.place == self.local.place;
        let same_device = hello.device_id == self.local.device_id;
        self.peer = Some(hello);
        match (same_log, self.role) {
            (true, Role::Asker) if same_place => {
                self.close(Reason::DONE, None, effects);
                return Err(SessionError::Itself);
            }
            // One of two copies has to become another. It is the one that asks, so that not both do.
            (true, Role::Asker) => {
                self.close(Reason::COPY, None, effects);
                self.ask(Request::TakeNewIdentity, Want::Identity, effects);
                return Ok(());
            }
            (true, Role::Answerer) => {}
            (false, _) if same_device => effects.push(Effect::Event(Event::SameDeviceId)),
            (false, _) => {}
        }
        match self.role {
            Role::Answerer => {
                self.ask(Request::Known, Want::Known, effects);
                self.ask(Request::Summary, Want::Summary(Then::SayHello), effects);
            }
            Role::Asker => self.hello_answered(effects),
        }
        Ok(())
    }

    /// The asker knows now who the peer is and whether there is anything to do.
    pub(super) fn hello_answered(&mut self, effects: &mut Effects) {
        let Some(peer) = &self.peer else { return };
        let (head, log_id, tally) = (peer.head, peer.log_id, peer.tally);
        let origins = peer.origins.clone();
        let (log_id_here, told) = (self.local.log_id, self.ours.head);
        self.read_by_peer = peer
            .read
            .filter(|cursor| cursor.log_id == log_id_here && cursor.seq <= told);
        let known = self.known_of_peer().map(|known| known.cursor);
        let start = Start::decide(known, log_id, head);
        self.report.start = start;
        effects.push(Effect::Event(Event::Started(start)));
        self.read = known.filter(|_| start == Start::Resume);
        if start == Start::OlderCopy {
            self.forget_cursor(effects);
        }
        self.stage = Stage::Comparing;
        if let Some(theirs) = origins {
            self.theirs = theirs;
            self.advance(effects);
        } else if tally == self.ours.tally() {
            // Equal tallies say all that a list of origins could say.
            self.theirs = self.ours.clone();
            self.theirs.head = head;
            self.advance(effects);
        } else {
            self.tell(effects);
        }
    }

    /// The answerer is asked for something.
    pub(super) fn asked(
        &mut self,
        message: Message,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        // One question at a time.
        if self.out.is_some() || self.is_answering() {
            return Err(unexpected(&message));
        }
        match message {
            Message::Standing(theirs) => {
                self.told = Some(theirs);
                self.theirs.head = theirs.head;
                self.reconciler = None;
                self.incoming = None;
                self.release(effects);
                self.recount(effects);
                self.ask(Request::Summary, Want::Summary(Then::TellBack), effects);
            }
            Message::Pull(wanted) => {
                let after = self.from(wanted.cursor);
                self.send_stretch(after, wanted.have, effects);
            }
            Message::Offer(theirs) if self.incoming.is_none() => {
                self.theirs = theirs;
                self.lease_until = Some(self.now + OFFER_MS_MAX);
                effects.push(Effect::Acquire);
            }
            Message::Reconcile(step) if step.first => self.compare_rows(step, effects),
            Message::Reconcile(step) => return self.answer_step(&step, None, effects),
            Message::Fetch(fetch) if self.reconciler.is_some() => {
                self.out = Some(Outflow::ids(fetch.ids, false));
                self.read_on(effects);
            }
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    pub(super) fn closed(
        &mut self,
        close: Close,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        let in_order = close.reason == Reason::DONE
            && (self.role == Role::Answerer || self.stage == Stage::Live);
        if !in_order {
            return Err(SessionError::Refused(close));
        }
        self.end(Ok(()), effects);
        Ok(())
    }

    pub(super) fn stream_ended(
        &mut self,
        end: StreamEnd,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        if self.wants.iter().any(|want| matches!(want, Want::Identity)) {
            return Ok(());
        }
        match end {
            StreamEnd::Fault(what) => Err(SessionError::Fault(what)),
            StreamEnd::Closed if self.peer.is_some() && self.is_live() => {
                self.end(Ok(()), effects);
                Ok(())
            }
            StreamEnd::Closed => Err(SessionError::Broken("the other end closed it".to_owned())),
            StreamEnd::Broken(text) => Err(SessionError::Broken(text)),
        }
    }

    pub(super) fn answer(
        &mut self,
        answer: Answer,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        let Some(want) = self.wants.pop_front() else {
            return Ok(());
        };
        match (want, answer) {
            (_, Answer::Failed(failed)) => return Err(SessionError::Log(failed)),
            (Want::Known, Answer::Known(known)) => {
                self.known = known;
                self.note_cursor();
            }
            (Want::KnownNow, Answer::Known(known)) => self.known_now = known,
            (Want::Summary(then), Answer::Summary(summary)) => self.summary(summary, then, effects),
            (Want::Read, Answer::Piece(piece)) => self.piece(piece, effects),
            (Want::Read, Answer::Found { entries, looked_up }) => {
                let entries = self.sendable(entries);
                if let Some(out) = &mut self.out {
                    let batch = out.found(entries, looked_up);
                    self.send_batch(batch, effects);
                }
            }
            (Want::Store { mends }, Answer::Stored(stored)) => {
                if mends {
                    self.report.mended += stored.inserted;
                }
                self.stored(stored, effects);
            }
            (Want::StoreNews(told), Answer::Stored(stored)) => {
                self.stored_news(told, stored, effects)
            }
            (Want::Hear { told, inserted }, Answer::Summary(ours)) => {
                self.hear(told, inserted, &ours, effects)
            }
            (Want::News, Answer::Piece(piece)) => self.announcing = Some(piece),
            (Want::NewsStanding, Answer::Summary(ours)) => self.send_news(&ours, effects),
            (Want::Settle, Answer::Summary(ours)) => self.settled(&ours, effects),
            (Want::Items, Answer::Items(items)) => return self.rows(items, effects),
            (Want::Identity, Answer::Identity(_)) => {
                self.end(Err(SessionError::WasCopy), effects);
            }
            (Want::Nothing, _) => {}
            (want, answer) => debug_assert!(false, "{answer:?} to {want:?}"),
        }
        Ok(())
    }

    pub(super) fn summary(&mut self, ours: Summary, then: Then, effects: &mut Effects) {
        self.ours = ours;
        match then {
            Then::SayHello => self.say_hello(effects),
            Then::Pull if self.wants_pull() => self.pull(effects),
            // Another session brought it meanwhile.
            Then::Pull => self.pulled(effects),
            Then::Offer => self.advance(effects),
            Then::SendOffer => {
                self.stage = Stage::Offering;
                effects.push(Effect::Send(Message::Offer(self.ours.clone())));
            }
            Then::Accept => self.accept(effects),
            Then::Tell => self.tell(effects),
            Then::TellBack => self.tell_back(effects),
        }
    }

    /// The asker wants to know whether the two are the same, and how they differ if not.
    pub(super) fn tell(&mut self, effects: &mut Effects) {
        self.stage = Stage::Comparing;
        effects.push(Effect::Send(Message::Standing(self.ours.standing())));
    }

    pub(super) fn tell_back(&mut self, effects: &mut Effects) {
        let ours = self.ours.standing();
        match self.told.take() {
            Some(theirs) if theirs.tally == ours.tally => {
                self.theirs = Summary {
                    head: theirs.head,
                    origins: self.ours.origins.clone(),
                };
                effects.push(Effect::Send(Message::Standing(ours)));
                self.found_same(effects);
            }
            _ => effects.push(Effect::Send(Message::Origins(self.ours.clone()))),
        }
    }

    pub(super) fn say_hello(&mut self, effects: &mut Effects) {
        let tally = self.ours.tally();
        let mut hello = Hello {
            protocol: PROTOCOL,
            device_id: self.local.device_id.clone(),
            device_name: self.local.device_name.clone(),
            user_id: self.local.user_id.clone(),
            version: self.local.version.clone(),
            log_id: self.local.log_id,
            place: self.local.place,
            head: self.ours.head,
            tally,
            stays: self.local.stays,
            origins: None,
            admission: None,
            read: None,
            brief: Some(true),
        };
        self.greeted = true;
        self.news_after = self.ours.head;
        let mut equal = false;
        if let (Role::Answerer, Some(peer)) = (self.role, &self.peer) {
            equal = peer.tally == tally;
            if !equal {
                hello.origins = Some(self.ours.clone());
                let cursor = self.known_of_peer().map(|known| known.cursor);
                hello.read = cursor.filter(|cursor| cursor.log_id == peer.log_id);
            }
        }
        effects.push(Effect::Send(Message::Hello(hello)));
        if equal {
            self.theirs = Summary {
                head: self.theirs.head,
                origins: self.ours.origins.clone(),
            };
            self.found_same(effects);
        }
    }

    /// As far as the answerer is concerned the round is over.
    pub(super) fn found_same(&mut self, effects: &mut Effects) {
        self.lived |= self.stays();
        self.remember(effects);
        let is_copy = |peer: &Hello| peer.log_id == self.local.log_id;
        if !self.peer.as_ref().is_some_and(is_copy) {
            effects.push(Effect::Event(Event::FoundSame(self.report.clone())));
        }
    }
}
