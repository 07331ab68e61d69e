"""Language models: their families, loading, the subject's last token, reading and replacing blocks, answers."""

from kbsync.models.checkpoint import in_hub_cache
from kbsync.models.devices import (
    ALONE,
    DeviceMemory,
    ModelSizes,
    Team,
    checkpoint_bytes,
    choose_device,
    join_team,
    list_devices,
    local_device,
    sizes_of,
)
from kbsync.models.family import FAMILIES, Family, family_of
from kbsync.models.forward import (
    Rows,
    capture,
    check_numbers,
    head_log_probs,
    last_hidden,
    make_rows,
    replace,
    resume,
    stop_after,
    stop_before,
    watch,
)
from kbsync.models.generation import Answer, generate_texts, greedy_answers, sampled_rows, top_answers
from kbsync.models.load import load_model
from kbsync.models.loaded import HeldWeight, LoadedModel, execution_device, hold_weights
from kbsync.models.scoring import TargetScore, require_chat_template, score_chat, score_targets
from kbsync.models.subject import TEST_SUBJECTS, Misplaced, TokenizedPrompt, locate, misplaced_subjects
