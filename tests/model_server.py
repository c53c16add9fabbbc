"""A real language model behind an OpenAI-compatible API, for the tests that need one: `model_server.py MODEL.gguf`.

Listens on 127.0.0.1 at a port that the kernel chooses and prints its URL once it answers; ends when its standard input does, so
that it never outlives who started it. One processor thread: two are slower on a busy machine with two cores.
"""
import socket, sys, time, urllib.request
import xllamacpp

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = port  # its host is 127.0.0.1 unless told otherwise
params.model_alias = {"smollm2"}
params.n_ctx, params.n_predict = 8192, 48
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)

for _ in range(600):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).read()
        break
    except OSError:
        time.sleep(0.1)
else:
    sys.exit("the model server does not answer")
print(f"http://127.0.0.1:{port}/v1", flush=True)
sys.stdin.read()
