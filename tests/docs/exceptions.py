"""Commands of the documents that no test runs as they stand, each with its reason."""

EXCEPTIONS = {  # how a command begins -> why it isn't run
    "docker ": "no container engine is here",
    "docker/check.sh": "it is for containers",
    "export SIMCLR_API_KEY=$(docker": "no container engine is here",
    "cp docker/env.example": "it is for containers",
    "git clone": "it is what brought this copy",
    ". .venv/bin/activate": "whoever runs the tests has an environment",
    ".venv/bin/simclr train ": "it takes minutes; test_your_own_images.py runs it for a moment, and compares",
    "simclr up": "it runs until Ctrl-C; every test of a running service starts it so",
    "simclr api": "it runs until it is stopped; tests/service/test_cli.py, and the stack's own API",
    "simclr worker": "it runs until it is stopped; the stack's own worker",
    "SIMCLR_DATABASE_URL=": "it runs until it is stopped; the stack's own worker",
    "simclr keys create": "works on the data folder of a service with keys; tests/service/test_key_commands.py",
    "simclr migrate": "needs a database of its own; tests/service/test_cli.py",
    "simclr create-bucket": "needs an object storage; tests/service/core",
    "simclr jobs cancel $JOB": "the tests' job has ended; they cancel others that they started",
    "curl -s -X POST http://127.0.0.1:8000/v1/jobs/$JOB/resume": "the tests' job has ended",
    "export SIMCLR_API_KEY=sk_": "the secret is made up",
    'curl -H "Authorization: Bearer $SIMCLR_API_KEY" http://HOST': "the host is made up",
    'simclr jobs start pretrain --dataset $DATASET --recipe \'{"preset": "imagenet"}\'': "needs GPUs of two nodes",
    'curl -s http://127.0.0.1:8000/v1/jobs --json \'{"kind": "pretrain", "dataset_id": "\'$DATASET\'", "recipe":'
    ' {"preset": "imagenet"}': "needs eight GPUs",
    'simclr jobs start pretrain --dataset $DATASET --recipe \'{"preset": "cifar10"}\'': "needs a GPU",
    "torchrun": "needs eight GPUs",
    "make ": "its target is looked up in the Makefile",
}
