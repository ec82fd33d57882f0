"""Where things are and how much of them is allowed: environment variables SIMCLR_*, or a file .env."""

import os
import socket
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.variants import Variant

PREFIX = "SIMCLR_"
ENV_FILE = ".env"
MAX_PORT = 65_535
CLIENT_NAMES = {"SIMCLR_URL", "SIMCLR_API_KEY"}  # read by the client commands (service/commands/connection.py)
ORIGIN_PATTERN = r"^https?://[^/?#\s]+$"


class Settings(BaseSettings):
    """All settings; `.env.example` lists them (a test keeps the two equal)."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=ENV_FILE, frozen=True, extra="ignore")

    data_dir: Path = Field(Path("simclr-data"), description="Folder of the embedded servers, run folders and storage.")
    database_url: str = Field(
        "", description="postgresql://… of a PostgreSQL with pgvector >= 0.8.4; empty: the embedded one."
    )
    redis_url: str = Field("", description="redis://… of a Redis or Valkey; empty: the embedded one.")
    storage_url: str = Field("", description="s3://bucket/prefix; empty: a folder in data_dir.")
    storage_options: dict[str, str] = Field(
        default_factory=dict,
        description='JSON of S3 options: {"endpoint": "http://…", "access_key_id": "…", "secret_access_key": "…"}.',
    )
    node_name: str = Field(
        default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="This worker's name."
    )
    node_address: str = Field(
        "", description="Address at which other nodes reach this worker; empty: the one it reaches the database from."
    )
    rendezvous_ports: str = Field(
        "29500-29599",
        description="Ports of this worker, first to last, of which one is where the processes of a job meet.",
    )
    num_cpu_slots: int = Field(
        1,
        ge=0,
        le=256,
        description="Processes that train or probe on the CPU which this worker runs at once, with as many parts of the"
        " cores.",
    )
    num_light_slots: int = Field(2, ge=1, le=256, description="Ingest and index jobs that this worker runs at once.")
    lease_seconds: float = Field(
        8, ge=2, le=600, description="A job whose worker is silent for longer is placed again."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Attempts of a job without progress before it fails.")
    growth_seconds: float = Field(
        30,
        ge=1,
        le=86_400,
        description="A job on fewer nodes than it may have is placed again on more once it has run, and has left to"
        " run, for so long.",
    )
    max_image_bytes: int = Field(20 * 2**20, ge=1, description="Of one uploaded image.")
    max_image_pixels: int = Field(25_000_000, ge=1, description="Width times height of one image.")
    max_image_side: int = Field(10_000, ge=1, description="Longer side of one image, pixels.")
    decode_timeout_seconds: float = Field(
        5, gt=0, le=600, description="Decoding one image; then its process is killed."
    )
    num_decoders: int = Field(2, ge=1, le=256, description="Processes of the API that decode images.")
    max_request_bytes: int = Field(256 * 2**20, ge=1, description="Of a request body, data set uploads apart.")
    max_images_per_request: int = Field(
        256, ge=1, le=10_000, description="Images that one request may bring, to store or to embed."
    )
    max_images_in_flight: int = Field(
        512, ge=1, description="Images that the API decodes and embeds at once; beyond, 429."
    )
    max_bytes_in_flight: int = Field(
        128 * 2**20,
        ge=1,
        description="Of the files of these images, and of the bodies of requests, in which JSON counts three times.",
    )
    max_wait_seconds: float = Field(
        0.75,
        gt=0,
        le=600,
        description="A request to embed that would wait for longer before its turn is refused with 429.",
    )
    request_timeout_seconds: float = Field(
        30, gt=0, le=600, description="A request to embed without the header X-Request-Timeout is dropped after it."
    )
    result_cache_bytes: int = Field(
        64 * 2**20, ge=0, description="Of embeddings that the API keeps, by their image's bytes; 0: none."
    )
    model_cache_bytes: int = Field(
        2 * 2**30, ge=1, description="Memory for loaded models; the one in use stays even where it is larger."
    )
    file_cache_bytes: int = Field(
        20 * 2**30,
        ge=0,
        description="Of a worker's copies of what an S3 storage has, in data_dir's cache; those that jobs use stay even"
        " where they are larger.",
    )
    min_free_bytes: int = Field(
        2**30, ge=0, description="Space that uploads leave on the disk of data_dir's storage: beyond, 507."
    )
    max_archive_bytes: int = Field(2 * 2**30, ge=1, description="Of an uploaded archive, and of its unpacked content.")
    max_archive_entries: int = Field(100_000, ge=1, description="Members of an archive.")
    max_archive_ratio: int = Field(100, ge=1, description="Unpacked over packed size of an archive.")
    variant: Variant | Literal["auto"] = Field(
        "float32",
        description="Of a model, serves and indexes where it is published, else float32: float32, float16, int8, or"
        " auto (float16 on a GPU, int8 on a CPU with VNNI). The same for the API and all workers.",
    )
    num_ort_threads: int = Field(0, ge=0, le=256, description="Cores that ONNX Runtime computes on; 0: all.")
    auth: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether requests need an API key; auto: unless the API listens on this machine alone"
        " (docs/security.md).",
    )
    cors_origins: list[Annotated[str, Field(pattern=ORIGIN_PATTERN)]] = Field(
        [], description='JSON list of the sites whose pages may call the API, such as ["https://example.org"].'
    )
    requests_per_second: float = Field(
        0, ge=0, description="Of a key whose limits don't say, in each process of the API; 0: no limit."
    )
    quota_images: int = Field(0, ge=0, description="Stored images of a tenant, as the one before; 0: no limit.")
    quota_jobs: int = Field(
        0, ge=0, description="Unfinished jobs of a tenant, those of an ablation apart; 0: no limit."
    )
    quota_gpu_seconds: int = Field(
        0, ge=0, description="Of a tenant's jobs in a month (UTC), for each GPU that they hold; 0: no limit."
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        known = CLIENT_NAMES | {PREFIX + name.upper() for name in type(self).model_fields}
        given = {name.upper() for name in (*os.environ, *dotenv_values(ENV_FILE))}
        if unknown := sorted(name for name in given - known if name.startswith(PREFIX)):
            raise ValueError(f"no setting is called {', '.join(unknown)}; .env.example lists them all")
        return self

    @field_validator("rendezvous_ports")
    @classmethod
    def _is_a_range(cls, text: str) -> str:
        first, _, last = text.partition("-")
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= MAX_PORT):
            raise ValueError(f"two ports from 1 to {MAX_PORT} such as 29500-29599, not {text!r}")
        return text

    @model_validator(mode="after")
    def _urls_have_known_schemes(self) -> Self:
        for name, schemes in (
            ("database_url", ("postgresql", "postgres")),
            ("redis_url", ("redis", "rediss")),
            ("storage_url", ("s3",)),
        ):
            url = getattr(self, name)
            if url and urlsplit(url).scheme not in schemes:
                raise ValueError(f"{name}: starts with {' or '.join(f'{s}://' for s in schemes)}, or is empty")
        return self

    @property
    def storage_dir(self) -> Path:
        """Folder of the local storage."""
        return self.data_dir / "storage"

    def runs_dir(self, node_name: str) -> Path:
        """Folder of the run folders of jobs on a node; several may keep theirs in one data_dir."""
        return self.data_dir / "runs" / node_name


class ClientSettings(BaseSettings):
    """What the client commands read from the environment or a file .env."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=ENV_FILE, frozen=True, extra="ignore")

    api_key: str = Field("", description="The key that requests carry, if the service wants one.")


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()


def child_environment(**values: str) -> dict[str, str]:
    """This process's environment with the settings `values` in it, for a child process."""
    return {**os.environ, **{f"SIMCLR_{name.upper()}": value for name, value in values.items()}}
