"""A web service for uvicorn."""

import os


async def app(scope, receive, send):
    """Answer each request with the pid of the worker."""
    if scope["type"] == "lifespan":
        return
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})


def serve(method, port_file):
    """Serve with two workers, whose processes and pipes are ours."""
    import socket

    import uvicorn
    import uvicorn._subprocess
    import uvicorn.supervisors.multiprocess

    import procession

    context = procession.get_context(method)
    uvicorn._subprocess.spawn = context
    uvicorn.supervisors.multiprocess.Pipe = context.Pipe
    config = uvicorn.Config("substitution.service:app", workers=2, lifespan="off", log_level="warning")
    listener = socket.create_server(("127.0.0.1", 0))
    os.set_inheritable(listener.fileno(), True)
    with open(port_file + ".new", "w") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(port_file + ".new", port_file)
    uvicorn.supervisors.multiprocess.Multiprocess(config, sockets=[listener]).run()


if __name__ == "__main__":
    import sys

    serve(*sys.argv[1:])
