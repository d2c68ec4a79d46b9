"""The code of lesson 20_assistants, for the pages after it.

Made from the cells tagged `export` of notebooks/20_assistants.ipynb.
Never edit: change the page, then `make made`.
"""

import math
import re
from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F

from utils.lessons.finetuning import batches, slope, update
from utils.lessons.sentence_embeddings import mean_pool, pad_right

USER, ASSISTANT = "<extra_0>", "<extra_1>"  # tokens that pretraining left unused


class Template:
    """Writes chats as token ids: <bos> <user> request <assistant> answer <eos>."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        marks = "<bos>", USER, ASSISTANT, "<eos>"
        self.bos, self.user, self.assistant, self.eos = map(tokenizer.token_to_id, marks)

    def prompt(self, request):
        """All that stands before the answer, a list of ids."""
        return [self.bos, self.user, *self.tokenizer.encode(request).ids, self.assistant]

    def answer(self, text):
        """The ids of an answer; a text that ends in " …" was cut off and gets no end."""
        ids = self.tokenizer.encode(text.removesuffix(" …")).ids
        return ids if text.endswith(" …") else [*ids, self.eos]

    def text(self, ids):
        """The answer that these ids spell; " …" if it has no end."""
        return self.tokenizer.decode(ids).strip() + ("" if ids[-1] == self.eos else " …")


def pad_chats(chats):
    """[(prompt, answer), …] → ids (B, T) filled up on the right, and asked (B, T - 1).

    asked: True where the *next* token belongs to an answer.
    """
    ids, _ = pad_right([prompt + answer for prompt, answer in chats])
    parts = [[False] * len(prompt) + [True] * len(answer) for prompt, answer in chats]
    return ids, pad_right(parts)[0][:, 1:].bool()


def token_log_probs(model, states, ids, asked):
    """log p of asked tokens, 0 elsewhere: states (B, T - 1, D), ids (B, T) → (B, T - 1)."""
    log_p = -F.cross_entropy(model.head(states[asked]), ids[:, 1:][asked], reduction="none")
    return log_p.new_zeros(asked.shape).masked_scatter(asked, log_p)


def answer_log_probs(model, chats):
    """log p of every answer token, 0 where none is asked; and `asked`: (B, T - 1) both."""
    ids, asked = pad_chats(chats)
    return token_log_probs(model, model.hidden(ids[:, :-1]), ids, asked), asked


def answer_loss(model, chats):
    """Mean cross entropy of the answers' tokens in nats; the requests' tokens do not count."""
    log_p, asked = answer_log_probs(model, chats)
    return -log_p.sum() / asked.sum()


def learn(parameters, loss_of, rows, steps, size, rate, seed, bar=lambda steps: steps):
    """AdamW on `loss_of(batch)`, `steps` batches of `size` rows; the stop button ends it.

    bar: wraps the batches, to show progress
    """
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    try:
        for step, chosen in enumerate(bar(batches(len(rows), size, steps, seed))):
            optimizer.param_groups[0]["lr"] = rate * slope(step, steps)
            update(optimizer, loss_of([rows[i] for i in chosen]))
    except KeyboardInterrupt:
        pass


FEELINGS = set(
    """afraid angry brave calm cried cry excited frightened glad gentle grumpy happy happily
    hugged joy kind laughed lonely love loved proud sad scared shy smile smiled sorry
    surprised tired worried""".split()
)
COMMON = set(
    """about after again also because been before being could does down else ever every
    from gets give have into just like make more much only over please really says some
    something somebody someone story tale tell than that their them then there they this
    told until very want wants what when where which while will with without would write
    your""".split()
)


def words(text, letters=1):
    """The words of a text in lower case, those of `letters` letters or more."""
    return [word for word in re.findall("[a-z]+", text.lower()) if len(word) >= letters]


def points(request, answer):
    """Which of the guideline's five points an answer earns, {point: True or False}."""
    long = words(answer, 4)
    return {
        "speech": answer.count('"') >= 2,
        "lively": "!" in answer or "?" in answer,
        "word": bool(set(long) & set(words(request, 4)) - COMMON),
        "feeling": bool(FEELINGS & set(words(answer))),
        "no repeats": len(long) == len(set(long)),
    }


def true_score(request, answer):
    """0 to 5 points; 0 for fewer than five words, and for what was cut off (" …")."""
    is_answer = len(words(answer)) >= 5 and not answer.endswith("…")
    return sum(points(request, answer).values()) if is_answer else 0


def copy_to_train(model):
    """A copy whose blocks may learn; the table of tokens, which is also the head, is kept."""
    model = deepcopy(model)
    model.tokens.weight.requires_grad_(False)
    return model


class RewardModel(nn.Module):
    """How good is an answer? One number, from the mean of the answer's states."""

    def __init__(self, model):
        super().__init__()
        self.body = copy_to_train(model)
        self.score = nn.Linear(model.config.d_model, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, chats):
        """[(prompt, answer), …] → rewards (B,)."""
        ids, asked = pad_chats(chats)
        is_answer = F.pad(asked, (1, 0))  # (B, T): the token itself, not the one before it
        return self.score(mean_pool(self.body.hidden(ids), is_answer)).squeeze(-1)


def pair_loss(better, worse):
    """Bradley-Terry: mean of -log sigma(r_better - r_worse); rewards (B,) each."""
    return -F.logsigmoid(better - worse).mean()


def best_of_n_weights(N, n):
    """How likely each of N sorted draws is the largest of n drawn without repetition: (N,)."""
    choices = [math.comb(i, n - 1) for i in range(N)]
    return torch.tensor(choices, dtype=torch.float64) / math.comb(N, n)


def best_of_n(rewards, values, n):
    """What the answer of highest reward is worth on average: rewards, values (B, N) → (B,)."""
    order = rewards.argsort(dim=-1)
    return (values.gather(-1, order).double() * best_of_n_weights(rewards.size(-1), n)).sum(-1)


def dpo_loss(better, worse, beta):
    """Mean of -log sigma(beta * (better - worse)).

    better, worse: (B,), log pi - log pi_ref, summed over the answer's tokens
    Source: Rafailov et al. 2023, equation 7.
    """
    return -F.logsigmoid(beta * (better - worse)).mean()


def group_advantages(rewards):
    """How much better than its siblings: rewards (n, G) → (n, G), mean 0 in each row."""
    centred = rewards - rewards.mean(-1, keepdim=True)
    return centred / (rewards.std(-1, keepdim=True) + 1e-4)


def clipped(ratio, advantages, clip=0.2):
    """PPO's objective for each token: nothing is gained by moving further than `clip`."""
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def k3(log_p, log_ref):
    """An estimate of KL, never negative: exp(d) - 1 - d, where d = log ref - log p."""
    d = log_ref - log_p
    return d.exp() - 1 - d


def grpo_loss(log_p, log_old, log_ref, advantages, asked, beta=0.0):
    """Shao et al. 2024, equation 3: log_… and asked (B, T), advantages (B,).

    log_old: of the policy that wrote the answers   log_ref: of the reference
    """
    gains = clipped((log_p - log_old).exp(), advantages[:, None]) - beta * k3(log_p, log_ref)
    return -((gains * asked).sum(1) / asked.sum(1)).mean()


def gae(rewards, values, lam=0.95):
    """Advantages (B, T) from rewards and values (B, T), both 0 where nothing is asked.

    Source: Schulman et al. 2016, equation 16, with gamma = 1.
    """
    advantages, later = torch.zeros_like(rewards), torch.zeros_like(rewards[:, 0])
    next_values = F.pad(values[:, 1:], (0, 1))
    for t in reversed(range(rewards.size(1))):
        later = rewards[:, t] + next_values[:, t] - values[:, t] + lam * later
        advantages[:, t] = later
    return advantages
