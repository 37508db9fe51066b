// Go's net/http as it comes: a body of a known length, one in chunks, and one that waits to be asked for.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const hit = `{"id":"go"}`

func main() {
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 10 * time.Second}}
	for i := 0; i < 3; i++ {
		send(client, strings.NewReader(hit), "")
	}
	send(client, io.MultiReader(strings.NewReader(hit)), "")
	send(client, strings.NewReader(hit), "100-continue")
}

func send(client *http.Client, body io.Reader, expect string) {
	request, err := http.NewRequest("POST", os.Args[1], body)
	if err != nil {
		panic(err)
	}
	if expect != "" {
		request.Header.Set("Expect", expect)
	}
	answer, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	fmt.Println(answer.StatusCode)
}
